// Floor 7: giving back what a dead process held. One pass over the tables, in an order in which each step may be repeated: whoever recovers may itself
// be killed anywhere, and the next one starts again.
#pragma once

#include "process/slots.hpp"
#include "sync/mutex.hpp"

namespace shoal::recovery {

void init();  // once, by the arena's creator

// The one mutex under which recovery and the sweep of retired objects run. Whoever is killed with it leaves it to the next; one that is stopped keeps it,
// so those whose caller must get on bound their wait. False: somebody else is at it.
constexpr uint64_t kPatience = 1'000'000'000;  // ns
void enter();
bool enter(sync::Wait& wait);
bool try_enter();
void leave();

// Dead: its token or its pidfd says so, or it never came to life.
bool is_dead(uint32_t slot);
// True: the slot was dead and is free now.
bool recover(uint32_t slot);
// True: nothing is left of what that life of a slot held; another one who is recovering it is waited for. False: it lives, or the wait is over.
bool recover_life(process::Token life, sync::Wait& wait);
// Recovers every dead slot; reads /proc for each live one.
uint32_t recover_all();

}  // namespace shoal::recovery
