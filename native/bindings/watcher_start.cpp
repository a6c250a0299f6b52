#include "bindings/watcher_start.hpp"

#include <Python.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <spawn.h>
#include <sys/wait.h>

#include <atomic>
#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "process/parent.hpp"
#include "process/slots.hpp"

extern char** environ;

namespace shoal::bindings {

namespace {

constexpr char kName[] = "shoal-watcher";
char path_[PATH_MAX];
// How it is started. Made beforehand, since memory is allocated for it, which a fork handler beside other threads, or a signal handler, must not wait for.
char arena_[16];
posix_spawn_file_actions_t actions_;

// Asked with every start. What the watcher's life token says is read from memory; the kernel is asked now and then only, for the case that the
// out-of-memory reaper has taken the mark away.
bool watcher_lives() {
  constexpr uint64_t kAskAgain = 1'000'000'000;  // ns
  // Of the last time that the kernel said so. A fork handler runs beside other threads: each word is true by itself, and the two need not agree.
  static std::atomic<uint32_t> last_slot{process::kNoSlot};
  static std::atomic<uint64_t> last_asked{0};
  const auto pid = static_cast<pid_t>(arena::header().watcher.load() & 0xffffffff);
  if (pid == 0) return false;
  const uint64_t now = os::now();
  const uint32_t slot = last_slot.load();
  if (slot != process::kNoSlot && now - last_asked.load() < kAskAgain && process::slot(slot).pid.load() == pid &&
      process::lives_by_token(slot))
    return true;
  if (process::watcher() != pid) return false;
  last_slot = process::slot_with_pid(pid);
  last_asked = now;
  return true;
}

void after_fork_in_parent() {
  if (process::last_fork() == 0) return;  // the child has no slot: nobody counts on it
  const int error = errno;
  start_watcher();  // if that fails, the next one tries again
  errno = error;
}

}  // namespace

bool find_watcher() {
  Dl_info info;
  if (dladdr(reinterpret_cast<void*>(&find_watcher), &info) != 0 && realpath(info.dli_fname, path_) != nullptr) {
    char* name = std::strrchr(path_, '/') + 1;
    if (static_cast<size_t>(name - path_) + sizeof kName <= sizeof path_) {
      std::memcpy(name, kName, sizeof kName);
      return true;
    }
  }
  PyErr_SetString(PyExc_ImportError, "the directory that shoal's native module was loaded from cannot be found");
  return false;
}

const char* watcher_path() { return path_; }

// The watcher must not be a child of the application, whose os.wait() would meet it: an intermediate shell-less process starts it and leaves. Both
// are vfork'd (posix_spawn), so no memory is copied and no fork handler runs.
int start_watcher() {
  if (watcher_lives()) return 0;
  char detach[] = "--detach";
  char* argv[] = {path_, detach, arena_, nullptr};
  pid_t pid = 0;
  const int error = posix_spawn(&pid, path_, &actions_, nullptr, argv, environ);
  while (error == 0 && waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
  }
  return error;
}

void prepare_watcher() {
  std::snprintf(arena_, sizeof arena_, "%d", arena::descriptor());
  posix_spawn_file_actions_init(&actions_);
  for (int fd : {0, 1, 2}) posix_spawn_file_actions_addopen(&actions_, fd, "/dev/null", O_RDWR, 0);
  // dup2 onto itself takes close-on-exec off, in the child only.
  posix_spawn_file_actions_adddup2(&actions_, arena::descriptor(), arena::descriptor());
  process::before_end([] { start_watcher(); });
}

void watch_over_forks() { pthread_atfork(nullptr, after_fork_in_parent, nullptr); }

}  // namespace shoal::bindings
