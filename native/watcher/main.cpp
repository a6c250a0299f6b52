// Floor 8: the watcher, one small program for each process tree, exec'd with nothing but the arena open. It stands behind the sleepers: it learns of
// each death by a pidfd and recovers at once what nobody was waiting for, and ends the dependents of the dead. If it is killed, its
// stand-by takes its place, and first recovers whoever died meanwhile; should there be none, the next process that starts a child starts a watcher.
//
//   shoal-watcher --detach DESCRIPTOR    starts itself as nobody's child
//   shoal-watcher --stand-by DESCRIPTOR LINE   waits for the end of the watcher at the other end of the line, and becomes it
//   shoal-watcher DESCRIPTOR             leaves when the last process of the tree has gone, and takes away the named memory and the sockets that it left
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <csignal>
#include <cstdlib>
#include <cstring>

#include <thread>

#include "names/names.hpp"
#include "process/slots.hpp"
#include "recovery/recovery.hpp"
#include "watcher/stand_by.hpp"

namespace {

using namespace shoal;
using process::State;

struct Watched {
  int pidfd = -1;
  uint64_t word = 0;  // the slot's generation that the descriptor belongs to
};
Watched watched[arena::kSlots];
int epoll_fd, changed_fd;

constexpr int kLookAtUnclaimed =
    1'000;  // ms, while there are slots of which nothing tells: without a process, for the most part
constexpr int kTriesToTakeOver = 5'000;  // one in a millisecond
constexpr uint64_t kChanged = UINT64_MAX, kStandByGone = UINT64_MAX - 1;
constexpr int kTriesToRemove = 1'000;
constexpr useconds_t kLetStartsFinish = 10'000;  // microseconds

void forget(uint32_t i) {
  if (watched[i].pidfd >= 0) close(watched[i].pidfd);  // leaves the epoll set by itself
  watched[i] = {};
}

// epoll cannot wait for a futex word, so a thread does, and says so through an eventfd.
void announce_changes() {
  os::Word& changed = arena::header().slots_changed;
  for (uint32_t seen = changed.load();; seen = changed.load()) {
    const uint64_t one = 1;
    if (write(changed_fd, &one, sizeof one) < 0 && errno == EBADF) return;
    os::futex_wait(changed, seen, os::kNever);
    // Processes often start in bursts, and a start has no time to spare: let it finish. Whoever dies meanwhile is found dead; a short life, start to
    // join, needs no watcher at all.
    usleep(kLetStartsFinish);
  }
}

struct Census {
  uint32_t present = 0, recovered = 0;  // recovered: nothing will tell of these again, so look once more
  uint32_t unclaimed = 0;               // of which nothing will tell
};

// What cannot be recovered now (no address space, say) is tried again after a while.
void recover(uint32_t slot, Census& census) { ++(recovery::recover(slot) ? census.recovered : census.unclaimed); }

// Opens a pidfd for each process that has come since, and recovers who is dead already.
Census look_at_slots() {
  Census census;
  for (uint32_t i = 0; i < arena::kSlots; ++i) {
    process::Slot& s = process::slot(i);
    const uint64_t word = s.word.load();
    const State state = process::state_of(word);
    if (i == process::mine()) continue;
    if (watched[i].pidfd >= 0 && watched[i].word >> 20 != word >> 20) forget(i);
    if (state == State::kFree) continue;
    if (state == State::kRecovering) {
      recover(i, census);
      continue;
    }
    ++census.present;
    const pid_t pid = s.pid.load();
    // exec ends a process for us though its pidfd stays silent; the token tells.
    if (process::token_says_dead(i)) {
      recover(i, census);
      continue;
    }
    if (pid <= 0) {
      ++census.unclaimed;
      if (recovery::is_dead(i)) recover(i, census);
      continue;
    }
    if (watched[i].pidfd >= 0) continue;
    const int fd = os::pidfd_open(pid);
    if (fd < 0) {  // it is gone, or there are no descriptors: then time tells
      ++census.unclaimed;
      if (recovery::is_dead(i)) recover(i, census);
      continue;
    }
    if (s.ticks.load() == 0) s.ticks = os::start_ticks(pid);
    watched[i] = {fd, word};
    epoll_event event{EPOLLIN, {.u64 = i}};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event);
  }
  return census;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc == 3 && std::strcmp(argv[1], "--detach") == 0) {
    if (fork() != 0) return 0;
    const int fd = std::atoi(argv[2]);
    if (fd > 3)
      close_range(3, static_cast<unsigned>(fd) - 1, 0);  // whatever the application had open without close-on-exec
    close_range(static_cast<unsigned>(fd) + 1, UINT_MAX, 0);
    argv[1] = argv[2];
    argc = 2;
  }
  const bool stands_by = argc == 4 && std::strcmp(argv[1], "--stand-by") == 0;
  if (argc != 2 && !stands_by) return 2;
  // It belongs to the tree, not to a terminal: what ends the application must leave time for what comes after.
  setsid();
  for (int signal : {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE}) std::signal(signal, SIG_IGN);
  prctl(PR_SET_NAME, "shoal-watcher");
  if (chdir("/") != 0) return 3;
  if (stands_by && !watcher::stand_by(std::atoi(argv[3]))) return 0;
  if (arena::attach(std::atoi(argv[stands_by ? 2 : 1])) != arena::Status::kOk) return 4;
  // A process that is killed closes its end of the line a moment before it counts as dead.
  const pid_t before = stands_by ? process::watcher() : 0;
  for (int tries = 0; !process::become_watcher(); ++tries) {
    const pid_t now = process::watcher();
    if (!stands_by || (now != 0 && now != before) || tries == kTriesToTakeOver) return 0;
    usleep(1'000);
  }
  if (!process::claim(0)) return 5;
  // One descriptor for each process, however few the application allows itself.
  if (rlimit files; getrlimit(RLIMIT_NOFILE, &files) == 0) {
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
  }

  epoll_fd = epoll_create1(EPOLL_CLOEXEC);
  changed_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  epoll_event event{EPOLLIN, {.u64 = kChanged}};
  epoll_ctl(epoll_fd, EPOLL_CTL_ADD, changed_fd, &event);
  std::thread(announce_changes).detach();
  recovery::recover_all();

  watcher::StandBy other;
  for (;;) {
    const Census census = look_at_slots();
    if (census.recovered != 0) continue;
    if (census.present == 0) break;
    const bool had_none = other.line() < 0;
    int pause = other.ensure();
    if (had_none && other.line() >= 0) {
      epoll_event gone{EPOLLIN, {.u64 = kStandByGone}};
      epoll_ctl(epoll_fd, EPOLL_CTL_ADD, other.line(), &gone);
    }
    if (census.unclaimed != 0) pause = kLookAtUnclaimed;
    epoll_event events[64];
    const int n = epoll_wait(epoll_fd, events, 64, pause);
    for (int k = 0; k < n; ++k) {
      if (events[k].data.u64 == kStandByGone) {
        other.bury();
        continue;
      }
      if (events[k].data.u64 == kChanged) {
        uint64_t count = 0;
        while (read(changed_fd, &count, sizeof count) < 0 && errno == EINTR) {
        }
        continue;
      }
      const auto i = static_cast<uint32_t>(events[k].data.u64);
      recovery::recover(i);
      forget(i);
    }
  }
  for (int tries = 0; names::remove_all(), names::is_anything_tracked() && tries < kTriesToRemove; ++tries)
    usleep(kLetStartsFinish);
  process::cease_to_watch();
  other.dismiss();
  return 0;
}
