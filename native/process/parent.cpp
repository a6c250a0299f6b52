#include "process/parent.hpp"

#include <csignal>

#include "process/slots.hpp"

namespace shoal::process {

namespace {

void (*before_end_)() = nullptr;

// The process with which this one is to end; 0: none, or this is a fork that took no slot, and its handler is its parent's.
Token parent_to_end_with() {
  if (mine() == kNoSlot || (slot(mine()).flags.load() & kDependent) == 0) return 0;
  return slot(mine()).parent.load();
}

// The kernel marks the life token of who dies before it sends the signal, so that this is a look at memory. The mark first: the slot may go to another one meanwhile.
bool is_marked_or_gone(Token parent) {
  const bool marked = token_says_dead(slot_of(parent));
  return is_gone(parent) || marked;
}

// Of some only their number tells: of those that attached off their main thread, and where the out-of-memory reaper took the mark away. Across a namespace's border it
// tells nothing.
bool is_gone_by_number(Token parent) {
  const Slot& s = slot(slot_of(parent));
  const pid_t pid = s.pid.load(), of_the_kernel = getppid();
  return of_the_kernel != 0 && of_the_kernel != pid && pid > 0 && os::process_is_gone(pid, s.ticks.load());
}

void look_at_parent(int) {
  const int error = errno;
  const Token parent = parent_to_end_with();
  if (parent != 0 && (is_marked_or_gone(parent) || is_gone_by_number(parent))) end_after_parent();
  errno = error;
}

// False: the program has a handler of its own. A child that was forked may have this one already.
bool take_signal() {
  struct sigaction action{};
  if (sigaction(SIGURG, nullptr, &action) != 0) return false;
  if (action.sa_handler == look_at_parent) return true;
  if (action.sa_handler != SIG_DFL && action.sa_handler != SIG_IGN) return false;
  action = {};
  action.sa_handler = look_at_parent;
  action.sa_flags = SA_RESTART | SA_ONSTACK;
  sigfillset(&action.sa_mask);
  return sigaction(SIGURG, &action, nullptr) == 0;
}

}  // namespace

void end_with_parent() {
  if (take_signal()) os::signal_at_end_of_parent(SIGURG);
  // One that died before the kernel was asked has been marked by now.
  if (const Token parent = parent_to_end_with(); parent != 0 && is_marked_or_gone(parent)) end_after_parent();
}

void end_after_parent() {
  if (before_end_ != nullptr) before_end_();
  kill(getpid(), SIGKILL);
  _exit(1);
}

void before_end(void (*hook)()) { before_end_ = hook; }

}  // namespace shoal::process
