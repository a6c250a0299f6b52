// Floor 4: turns, by which the threads of a manager's server ask for the GIL one at a time.
//
// A request takes a microsecond. When four threads want the GIL for one each, handing it over costs more than that: whoever lets go of it wakes the next, is
// preempted by it while still holding the GIL's own mutex, and so on, five futex calls a request. So a thread that has a request asks for the turn first, and
// then finds the GIL free. Whoever has the turn keeps it for a while (kQuantum) as long as its client's next request comes at once, before it wakes the next: a
// run of requests costs one hand-over.
//
// The turn is advice, not a lock. Nothing is protected by it, and it is passed by when its holder has had it for too long in one go (kPatience): in a method that
// blocks, or computes. The server gives it up before it calls one that is known to block. It belongs to a process, so nothing is left behind when one is killed;
// what a fork has copied is passed by likewise.
#pragma once

#include <cstdint>

namespace shoal::sync::turn {

constexpr uint64_t kQuantum = 100'000;   // ns
constexpr uint64_t kPatience = 200'000;  // ns

void take();       // waits, without the GIL
void put_down();   // if this thread has it; wakes nobody
void offer();      // after that: to one who sleeps for it, and nobody else may take it first
bool is_wanted();  // whether somebody waits
bool may_keep();   // whether this thread's run may go on, although somebody waits

}  // namespace shoal::sync::turn
