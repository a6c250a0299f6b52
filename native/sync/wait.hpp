// Floor 4: how a thread waits. The one who calls says until when, and what to do before sleeping and after a signal; the bindings let go of the GIL
// there and run Python's signal handlers. These hooks may end the thread (a daemon thread at interpreter exit), so no frame between
// them and Python has a destructor to run or is noexcept, and no internal mutex is held when they are called.
#pragma once

#include "os/system.hpp"

namespace shoal::sync {

// Milliseconds that one sleep in a system call may last where signals matter: one that comes between the interpreter's last look and the call does not end it.
constexpr int kSignalSlice = 1'000;

struct Wait {
  uint64_t deadline = os::kNever;        // nanoseconds, CLOCK_MONOTONIC; 0: do not wait at all
  void (*pause)(Wait&) = nullptr;        // before the first sleep or spin: lets go of the GIL
  bool (*interrupted)(Wait&) = nullptr;  // true: give up (an exception is set)
  void* state = nullptr;
  bool paused = false;
  bool idle = false;  // nobody is waiting for this thread to notice a signal at once: it may sleep without end

  bool expired() const { return deadline != os::kNever && (deadline == 0 || os::now() >= deadline); }
  void begin() {
    if (!paused && pause != nullptr) pause(*this);
    paused = true;
  }
  bool should_stop() { return interrupted != nullptr && interrupted(*this); }
};

}  // namespace shoal::sync
