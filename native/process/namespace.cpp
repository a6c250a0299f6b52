#include "process/namespace.hpp"

#include <csignal>

#include "process/slots.hpp"

namespace shoal::process {

namespace {

// It lives, and there is no such process here. (One of which only its number tells may be anywhere: it counts as here.)
bool lives_outside(uint32_t index) {
  const pid_t pid = slot(index).pid.load();
  return pid > 0 && kill(pid, 0) != 0 && errno == ESRCH && lives_by_token(index);
}

}  // namespace

bool tree_ends_with_this() {
  if (getpid() != 1 || mine() == kNoSlot) return false;
  // Who has joined a tree may have done so from outside of a namespace that began with it: then the watcher is out there, too.
  if ((slot(mine()).flags.load() & kFounder) == 0) return false;
  for (uint32_t i = 0; i < arena::kSlots; ++i)
    if (lives_outside(i)) return false;
  return true;
}

}  // namespace shoal::process
