#include "watcher/stand_by.hpp"

#include <fcntl.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <cstdio>

#include "arena/arena.hpp"
#include "os/system.hpp"

extern char** environ;

namespace shoal::watcher {

namespace {

constexpr uint64_t kPause = 1'000'000'000;  // ns between two attempts
constexpr char kDismissed = 'd';

}  // namespace

int StandBy::ensure() {
  if (line_ >= 0) return -1;
  const uint64_t now = os::now();
  if (now < again_at_) return static_cast<int>((again_at_ - now) / 1'000'000) + 1;
  again_at_ = now + kPause;
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) return static_cast<int>(kPause / 1'000'000);
  char name[] = "shoal-watcher", how[] = "--stand-by", arena_fd[16], line_fd[16];
  std::snprintf(arena_fd, sizeof arena_fd, "%d", arena::descriptor());
  std::snprintf(line_fd, sizeof line_fd, "%d", ends[1]);
  char* argv[] = {name, how, arena_fd, line_fd, nullptr};
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  // dup2 onto itself takes close-on-exec off, in the child only.
  for (int fd : {arena::descriptor(), ends[1]}) posix_spawn_file_actions_adddup2(&actions, fd, fd);
  const int error = posix_spawn(&pid_, "/proc/self/exe", &actions, nullptr, argv, environ);
  posix_spawn_file_actions_destroy(&actions);
  close(ends[1]);
  if (error != 0) {
    close(ends[0]);
    return static_cast<int>(kPause / 1'000'000);
  }
  line_ = ends[0];
  return -1;
}

void StandBy::bury() {
  while (waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
  close(line_);
  line_ = -1;
}

void StandBy::dismiss() {
  if (line_ < 0) return;
  while (send(line_, &kDismissed, 1, MSG_NOSIGNAL) < 0 && errno == EINTR) {
  }
  bury();
}

bool stand_by(int line) {
  fcntl(line, F_SETFD, FD_CLOEXEC);
  char word = 0;
  ssize_t n = 0;
  while ((n = read(line, &word, 1)) < 0 && errno == EINTR) {
  }
  close(line);
  return n <= 0;
}

}  // namespace shoal::watcher
