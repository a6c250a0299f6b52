#include "os/system.hpp"

#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#ifndef SYS_futex_waitv
#define SYS_futex_waitv 449
#endif
#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif
#ifndef SYS_pidfd_send_signal
#define SYS_pidfd_send_signal 424
#endif
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif

namespace shoal::os {

namespace {

struct WaitvEntry {  // struct futex_waitv of linux/futex.h, which older headers lack
  uint64_t value, address;
  uint32_t flags, reserved;
};
static_assert(sizeof(WaitvEntry) == 24, "the kernel reads entries of 24 bytes");
constexpr uint32_t kFutex32 = 2;  // FUTEX_32: the kernel takes no other size

Wake result_of(long r) {
  if (r >= 0) return Wake::kWoken;
  switch (errno) {
    case EAGAIN:
      return Wake::kChanged;
    case ETIMEDOUT:
      return Wake::kTimeout;
    case EINTR:
      return Wake::kSignal;
    default:
      return Wake::kChanged;
  }
}

std::atomic<int> waitv_state{0};  // 0 not probed, 1 there, 2 not there

uint64_t read_number(const char* path) {
  FILE* f = std::fopen(path, "re");
  if (f == nullptr) return 0;
  char text[64] = {};
  const size_t n = std::fread(text, 1, sizeof text - 1, f);
  std::fclose(f);
  if (n == 0 || std::strncmp(text, "max", 3) == 0) return 0;
  return std::strtoull(text, nullptr, 10);
}

}  // namespace

Wake futex_wait(Word& word, uint32_t expected, uint64_t deadline) {
  // FUTEX_WAIT_BITSET takes an absolute CLOCK_MONOTONIC time, so a restarted sleep does not grow.
  timespec t = to_timespec(deadline);
  return result_of(syscall(SYS_futex, &word, FUTEX_WAIT_BITSET, expected, deadline == kNever ? nullptr : &t, nullptr,
                           FUTEX_BITSET_MATCH_ANY));
}

Wake futex_wait_either(Word& first, uint32_t first_expected, Word& second, uint32_t second_expected,
                       uint64_t deadline) {
  if (has_futex_waitv()) {
    WaitvEntry entries[2] = {{first_expected, reinterpret_cast<uint64_t>(&first), kFutex32, 0},
                             {second_expected, reinterpret_cast<uint64_t>(&second), kFutex32, 0}};
    timespec t = to_timespec(deadline);
    return result_of(syscall(SYS_futex_waitv, entries, 2, 0, deadline == kNever ? nullptr : &t, CLOCK_MONOTONIC));
  }
  if (second.load() != second_expected) return Wake::kChanged;
  return futex_wait(first, first_expected, std::min(deadline, now() + 50'000'000));
}

int futex_wake(Word& word, int count) {
  return static_cast<int>(syscall(SYS_futex, &word, FUTEX_WAKE, count, nullptr, nullptr, 0));
}

bool has_futex_waitv() {
  int state = waitv_state.load(std::memory_order_relaxed);
  if (state == 0) {
    // Zero entries is EINVAL where the call exists; seccomp profiles answer EPERM, old kernels ENOSYS.
    syscall(SYS_futex_waitv, nullptr, 0, 0, nullptr, CLOCK_MONOTONIC);
    state = errno == EINVAL ? 1 : 2;
    waitv_state.store(state, std::memory_order_relaxed);
  }
  return state == 1;
}

int above_standard(int fd) {
  if (fd < 0 || fd > STDERR_FILENO) return fd;
  const int copy = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
  const int error = errno;
  close(fd);
  errno = error;
  return copy;
}

int memfd(const char* name) {
  int fd = memfd_create(name, MFD_CLOEXEC | MFD_NOEXEC_SEAL);  // vm.memfd_noexec=2 refuses anything else
  if (fd < 0 && errno == EINVAL) fd = memfd_create(name, MFD_CLOEXEC);
  return above_standard(fd);
}

int pidfd_open(pid_t pid) { return above_standard(static_cast<int>(syscall(SYS_pidfd_open, pid, 0))); }

int pidfd_kill(int pidfd, int signal) {
  return static_cast<int>(syscall(SYS_pidfd_send_signal, pidfd, signal, nullptr, 0));
}

void signal_at_end_of_parent(int signal) { prctl(PR_SET_PDEATHSIG, signal); }

namespace {

// Fields 3 (state) and 22 (start time) of /proc/PID/stat; the name before them may contain anything, hence the search for the last ')'.
bool read_stat(pid_t pid, char& state, uint64_t& ticks) {
  char path[64], text[1024];
  std::snprintf(path, sizeof path, "/proc/%d/stat", static_cast<int>(pid));
  const int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return false;
  ssize_t n = 0;
  while ((n = read(fd, text, sizeof text - 1)) < 0 && errno == EINTR) {
  }
  close(fd);
  if (n <= 0) return false;
  text[n] = 0;
  const char* p = std::strrchr(text, ')');
  if (p == nullptr || p[1] == 0) return false;
  p += 2;
  state = *p;
  for (int field = 3; field < 22 && p != nullptr; ++field) {
    p = std::strchr(p, ' ');
    if (p != nullptr) ++p;
  }
  if (p == nullptr) return false;
  ticks = std::strtoull(p, nullptr, 10);
  return true;
}

}  // namespace

uint64_t start_ticks(pid_t pid) {
  char state = 0;
  uint64_t ticks = 0;
  return read_stat(pid, state, ticks) ? ticks : 0;
}

// Where /proc does not tell (it is not mounted, there is no descriptor to read it by) the kernel still says whether there is such a number.
bool process_is_gone(pid_t pid, uint64_t ticks) {
  char state = 0;
  uint64_t found = 0;
  if (!read_stat(pid, state, found)) return kill(pid, 0) != 0 && errno == ESRCH;
  return state == 'Z' || state == 'X' || (ticks != 0 && found != ticks);
}

bool process_lives(pid_t pid, uint32_t ticks) {
  char state = 0;
  uint64_t found = 0;
  if (!read_stat(pid, state, found)) return kill(pid, 0) == 0;
  return state != 'Z' && state != 'X' && static_cast<uint32_t>(found) == ticks;
}

unsigned usable_cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) == 0) return static_cast<unsigned>(std::max(1, CPU_COUNT(&set)));
  return static_cast<unsigned>(std::max(1L, sysconf(_SC_NPROCESSORS_ONLN)));
}

bool cores_suffice() {
  FILE* f = std::fopen("/proc/loadavg", "re");
  if (f == nullptr) return false;
  long running = 0;  // the fourth field: running/all
  const bool found = std::fscanf(f, "%*s %*s %*s %ld", &running) == 1;
  std::fclose(f);
  return found && running <= sysconf(_SC_NPROCESSORS_ONLN);
}

uint64_t memory_limit() {
  uint64_t limit = static_cast<uint64_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  for (const char* path : {"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"}) {
    const uint64_t n = read_number(path);
    if (n != 0) limit = std::min(limit, n);
  }
  // A process in a cgroup below the root of its namespace: its own path is in /proc/self/cgroup ("0::/path").
  if (FILE* f = std::fopen("/proc/self/cgroup", "re")) {
    char line[512], path[640];
    while (std::fgets(line, sizeof line, f) != nullptr) {
      if (std::strncmp(line, "0::", 3) != 0) continue;
      line[std::strcspn(line, "\n")] = 0;
      std::snprintf(path, sizeof path, "/sys/fs/cgroup%s/memory.max", line + 3);
      const uint64_t n = read_number(path);
      if (n != 0) limit = std::min(limit, n);
    }
    std::fclose(f);
  }
  return limit;
}

}  // namespace shoal::os
