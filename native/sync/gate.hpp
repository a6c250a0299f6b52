// Floor 4: the gate, where threads sleep until a condition that others change may hold.
//
//   sleeper:  announce(); look at the condition again; sleep()          waker:  change the condition; open_one() or open_all()
//
// `announced` tells wakers that somebody may sleep; the waker that wakes takes it back, and each sleeper that wakes sets it again. A woken sleeper that has
// taken what it came for, or leaves without, announces those behind it again and passes the wake-up on if there is more to take (leave). A sleeper or a waker killed on the
// way owes a wake-up: recovery opens every gate that somebody sleeps at (process/nodes.hpp).
#pragma once

#include "process/nodes.hpp"
#include "sync/wait.hpp"

namespace shoal::sync {

struct Gate {
  os::Word sequence;   // the futex word: counts openings
  os::Word announced;  // 1: somebody may be asleep
};

// One thread's wait at one gate, on its stack: plain data, nothing to destroy.
struct Sleeper {
  uint32_t node = process::kNoNode;
  uint32_t seen = 0;
  bool slept = false;
  uint64_t slice = 20'000'000;  // ns, see sleep()
};

enum class Slept { kAgain, kTimeout, kInterrupted };

inline void announce(Gate& gate, Sleeper& sleeper) {
  sleeper.seen = gate.sequence.load();
  gate.announced.store(1);  // sequentially consistent, as are the loads of the condition that follow it
}
// Sleeps until the gate has been opened since announce(). Lets go of the GIL through `wait`.
Slept sleep(Gate& gate, Sleeper& sleeper, uint32_t object, uint64_t gate_offset, Wait& wait);

// The waker's look at `announced`, after its change of the condition: either it sees the sleeper or the sleeper sees the change.
inline bool is_announced(Gate& gate) {
#if defined(__SANITIZE_THREAD__)
  return gate.announced.fetch_add(0) != 0;  // ThreadSanitizer knows no fences
#else
  std::atomic_thread_fence(std::memory_order_seq_cst);
  return gate.announced.load(std::memory_order_relaxed) != 0;
#endif
}
inline void open_one(Gate& gate) {
  if (!is_announced(gate)) return;
  gate.announced.store(0);
  gate.sequence.fetch_add(1);
  os::futex_wake(gate.sequence, 1);
}
inline void open_all(Gate& gate) {  // for a gate that is never opened to one
  if (!is_announced(gate)) return;
  gate.announced.store(0);
  gate.sequence.fetch_add(1);
  os::futex_wake(gate.sequence, INT_MAX);
}
// For a gate that is otherwise opened to one: whoever did that has taken `announced` back, and others still sleep.
inline void call_all(Gate& gate) {
  gate.sequence.fetch_add(1);
  os::futex_wake(gate.sequence, INT_MAX);
}
// Must be called when the wait is over, however it ended. `more`: there is something for the next sleeper, too.
void leave(Gate& gate, Sleeper& sleeper, bool more);

// Spinning before sleeping. A permit is an owned word, so that there are never more spinners than cores - 1, and a killed one's is given back.
// Calls ready() until it is true or about as long has passed as a sleep and a wake-up cost.
//
// Whether that pays depends on where the other side runs. On another core it answers in under a microsecond; waiting for this very core, on a busy
// machine, it cannot answer before the spin ends. So a thread spins half as long after each spin in vain, and in full again now and then, to notice that
// times have changed: without that a round trip on a shared core took 85 us instead of 10.
constexpr uint64_t kSpinNanoseconds = 40'000;
constexpr uint64_t kGraceNanoseconds = 1'500;  // how long to try for a permit: the last holder is often about to leave
int take_permit();
void give_permit(int permit);

struct Patience {     // what a thread has learned
  uint32_t vain = 0;  // halvings
  uint32_t until_full = 0, full_every = 0;
};
constexpr uint32_t kMostHalvings = 7;
uint64_t patience(uint64_t limit, bool& in_full);
void learn(bool in_vain, bool in_full);

// Calls ready() until it is true, or so many ns have passed, or nobody may spin: a wait for a permit counts.
template <class Ready>
bool spin_until(Ready ready, uint64_t limit, bool& had_permit) {
  const uint64_t start = os::now();
  int permit = take_permit();
  for (;;) {
    for (int i = 0; i < 16; ++i) {
      if (ready()) {
        if (permit >= 0) give_permit(permit);
        return true;
      }
      os::relax();
    }
    const uint64_t passed = os::now() - start;
    had_permit = permit >= 0;
    if (permit < 0) {
      if (passed > kGraceNanoseconds || passed > limit) return false;
      permit = take_permit();
    } else if (passed > limit) {
      give_permit(permit);
      return false;
    }
  }
}

template <class Ready>
bool spin(Ready ready, uint64_t limit = kSpinNanoseconds) {
  if (arena::header().cores < 2) return false;
  bool in_full = false, had_permit = false;
  const bool found = spin_until(ready, patience(limit, in_full), had_permit);
  if (found || had_permit) learn(!found, in_full);
  return found;
}

}  // namespace shoal::sync
