// Floor 8: who takes over when the watcher is killed. The watcher starts a second process of the same program, which does nothing but wait for the end of the
// first. Each of the two replaces the other, so both must be killed within milliseconds to leave a tree unwatched (until it next starts a process, or one ends whose children are to end with it).
#pragma once

#include <cstdint>

namespace shoal::watcher {

class StandBy {
 public:
  // Starts one if there is none; again and again in vain at most once a second. -1, or how many milliseconds to wait before the next attempt.
  int ensure();
  // Readable when it has been killed: for the caller's epoll set, which it leaves by itself; -1: there is none.
  int line() const { return line_; }
  void bury();     // it has been killed
  void dismiss();  // it is not needed any more

 private:
  int pid_ = 0;
  int line_ = -1;
  uint64_t again_at_ = 0;
};

// In the stand-by: sleeps until the watcher at the other end has gone; true if it was killed, and somebody must take over.
bool stand_by(int line);

}  // namespace shoal::watcher
