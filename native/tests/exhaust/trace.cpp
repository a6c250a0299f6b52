#include "trace.hpp"

#include <linux/futex.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <unordered_map>

#include "view.hpp"

namespace shoal::exhaust {

bool sleeps(pid_t pid) {
  char path[64], text[512];
  std::snprintf(path, sizeof path, "/proc/%d/stat", static_cast<int>(pid));
  FILE* f = std::fopen(path, "re");
  if (f == nullptr) return false;
  const size_t n = std::fread(text, 1, sizeof text - 1, f);
  std::fclose(f);
  text[n] = 0;
  const char* p = std::strrchr(text, ')');
  return p != nullptr && p[1] != 0 && p[2] == 'S';
}

#if defined(__x86_64__)

namespace {

constexpr unsigned char kBreak = 0xcc;
constexpr uint64_t kPatience = 10 * kSecond;
constexpr long kFutexWaitv = 449, kPidfdOpen = 434, kPidfdSendSignal = 424;  // which older headers lack

// The victim is a fork: its code is ours, at the same addresses.
unsigned char code(uint64_t address) { return *reinterpret_cast<const volatile unsigned char*>(address); }
bool is_call(uint64_t address) { return code(address) == 0x0f && code(address + 1) == 0x05; }

uint64_t get(pid_t pid, size_t offset) {
  errno = 0;
  const long value = ptrace(PTRACE_PEEKUSER, pid, offset, nullptr);
  CHECK(errno == 0);
  return static_cast<uint64_t>(value);
}
uint64_t address_of(pid_t pid) { return get(pid, offsetof(user_regs_struct, rip)); }
long call_of(pid_t pid) { return static_cast<long>(get(pid, offsetof(user_regs_struct, rax))); }

void write_code(pid_t pid, uint64_t address, unsigned char byte) {
  const uint64_t at = address & ~7ull;
  errno = 0;
  auto word = static_cast<uint64_t>(ptrace(PTRACE_PEEKTEXT, pid, at, nullptr));
  CHECK(errno == 0);
  const unsigned shift = static_cast<unsigned>(address - at) * 8;
  word = (word & ~(0xffull << shift)) | static_cast<uint64_t>(byte) << shift;
  CHECK(ptrace(PTRACE_POKETEXT, pid, at, word) == 0);
}

enum class Stopped { kTrap, kAsleep };

// Lets it run until it stops; kAsleep: it sleeps in the kernel instead.
Stopped go(pid_t pid, __ptrace_request how, bool may_sleep) {
  if (how != PTRACE_TRACEME) CHECK(ptrace(how, pid, nullptr, nullptr) == 0);
  int status = 0;
  if (!may_sleep) {
    CHECK(waitpid(pid, &status, 0) == pid);
  } else {
    const uint64_t start = os::now();
    uint32_t seen_asleep = 0;
    for (;;) {
      const pid_t who = waitpid(pid, &status, WNOHANG);
      CHECK(who == pid || who == 0);
      if (who == pid) break;
      const uint64_t passed = os::now() - start;
      CHECK(passed < kPatience);
      if (passed < kSecond / 2000) continue;
      usleep(500);
      seen_asleep = sleeps(pid) ? seen_asleep + 1 : 0;
      if (seen_asleep == 4) return Stopped::kAsleep;
    }
  }
  CHECK(WIFSTOPPED(status) && WSTOPSIG(status) == SIGTRAP);
  return Stopped::kTrap;
}

// It sleeps: make it go on, and wait for the stop it was on the way to.
void rouse(Scenario& scenario) {
  scenario.victim_sleeps();
  int status = 0;
  const uint64_t end = os::now() + kPatience;
  while (waitpid(scenario.victim.pid, &status, WNOHANG) == 0) {
    CHECK(os::now() < end);
    usleep(100);
  }
  CHECK(WIFSTOPPED(status) && WSTOPSIG(status) == SIGTRAP);
}

}  // namespace

const char* why_not() {
  const pid_t pid = fork();
  if (pid < 0) return "fork failed";
  if (pid == 0) {
    if (ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) != 0) _exit(1);
    mark();
    _exit(2);
  }
  int status = 0;
  const char* reason = nullptr;
  if (waitpid(pid, &status, 0) != pid || !WIFSTOPPED(status)) {
    return "ptrace is forbidden here";
  }
  if (ptrace(PTRACE_SINGLESTEP, pid, nullptr, nullptr) != 0 || waitpid(pid, &status, 0) != pid || !WIFSTOPPED(status) ||
      WSTOPSIG(status) != SIGTRAP)
    reason = "ptrace cannot single-step here";
  kill(pid, SIGKILL);
  waitpid(pid, nullptr, 0);
  return reason;
}

void be_traced() { CHECK(ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) == 0); }

void wait_for_mark(pid_t victim) {
  int status = 0;
  CHECK(waitpid(victim, &status, 0) == victim);
  CHECK(WIFSTOPPED(status) && WSTOPSIG(status) == SIGTRAP && code(address_of(victim) - 1) == kBreak);
  CHECK(ptrace(PTRACE_SETOPTIONS, victim, nullptr, PTRACE_O_EXITKILL) == 0);
}

void record(Scenario& scenario, std::vector<Point>& points) {
  const pid_t pid = scenario.victim.pid;
  std::unordered_map<uint64_t, uint32_t> executions;
  View view;
  points.push_back({When::kStart, 0, address_of(pid), 0, -1});
  for (;;) {
    const uint64_t address = address_of(pid);
    if (code(address) == kBreak) {
      points.push_back({When::kEnd, 0, address, 0, -1});
      return;
    }
    const uint32_t nth = ++executions[address];
    const bool call = is_call(address);
    const long number = call ? call_of(pid) : -1;
    if (call) points.push_back({When::kBeforeCall, nth, address, 0, number});
    if (go(pid, PTRACE_SINGLESTEP, call) == Stopped::kAsleep) {
      points.push_back({When::kAsleep, nth, address, 0, number});
      rouse(scenario);
      view.renew();
    }
    const uint64_t changed = view.renew();
    if (call || changed != 0)
      points.push_back({call ? When::kAfterCall : When::kAfterStore, nth, address, changed, number});
  }
}

bool advance(Scenario& scenario, const Point& point) {
  const pid_t pid = scenario.victim.pid;
  if (point.when == When::kStart) return true;
  const bool to_end = point.when == When::kEnd;
  uint32_t hits = 0;
  for (;;) {
    if (!to_end) write_code(pid, point.address, kBreak);
    if (go(pid, PTRACE_CONT, true) == Stopped::kAsleep) rouse(scenario);
    const uint64_t at = address_of(pid) - 1;
    if (!to_end) write_code(pid, point.address, code(point.address));
    if (code(at) == kBreak) return to_end;
    CHECK(at == point.address);
    CHECK(ptrace(PTRACE_POKEUSER, pid, offsetof(user_regs_struct, rip), at) == 0);
    if (++hits == point.nth) break;
    if (go(pid, PTRACE_SINGLESTEP, is_call(at)) == Stopped::kAsleep) rouse(scenario);
  }
  if (point.when == When::kBeforeCall) return true;
  View view;
  if (go(pid, PTRACE_SINGLESTEP, point.call >= 0) == Stopped::kAsleep) {
    if (point.when == When::kAsleep) return true;
    rouse(scenario);
  }
  return point.when == When::kAfterCall || view.renew() == point.place;
}

std::vector<int> errors_of_call(pid_t victim) {
  switch (call_of(victim)) {
    case SYS_futex: {
      const uint64_t what = get(victim, offsetof(user_regs_struct, rsi)) & FUTEX_CMD_MASK;
      if (what == FUTEX_WAIT || what == FUTEX_WAIT_BITSET) return {EINTR, EAGAIN};
      return {};  // a wake-up of a valid address
    }
    case kFutexWaitv:
      return {EINTR, EAGAIN, ENOMEM};
    case SYS_fallocate:
      return {ENOSPC, EINTR};
    case SYS_mmap:
    case SYS_munmap:
      return {ENOMEM};
    case SYS_madvise:
      return {EINVAL};
    case SYS_fstat:
    case SYS_newfstatat:  // of the arena's descriptor, which may have been closed behind its back
      if (get(victim, offsetof(user_regs_struct, rdi)) == static_cast<uint64_t>(arena::descriptor())) return {EBADF};
      return {};
    case SYS_openat:
      return {EMFILE};
    case SYS_read:
    case SYS_write:
      return {EINTR};
    case SYS_close:
    case SYS_poll:
      return {EINTR};
    case SYS_sendmsg:
      return {EINTR, EAGAIN, ENOBUFS, EPIPE};
    case kPidfdOpen:
      return {EMFILE, ENOSYS};
    case kPidfdSendSignal:
      return {EPERM};
    case SYS_sched_getaffinity:
      return {EPERM};
    default:
      return {};
  }
}

bool fail_call(Scenario& scenario, int error) {
  const pid_t pid = scenario.victim.pid;
  const auto result = static_cast<uint64_t>(-static_cast<int64_t>(error));
  const uint64_t next = address_of(pid) + 2;
  CHECK(ptrace(PTRACE_POKEUSER, pid, offsetof(user_regs_struct, rax), result) == 0);
  CHECK(ptrace(PTRACE_POKEUSER, pid, offsetof(user_regs_struct, rip), next) == 0);
  CHECK(ptrace(PTRACE_CONT, pid, nullptr, nullptr) == 0);
  const uint64_t end = os::now() + kPatience;
  uint32_t asleep = 0;
  bool roused = false;
  for (;;) {
    int status = 0;
    const pid_t who = waitpid(pid, &status, WNOHANG);
    CHECK(who == pid || who == 0);
    if (who == pid && !WIFSTOPPED(status)) {
      CHECK(WIFEXITED(status) && "an error must not crash it");
      return false;
    }
    if (who == pid) {
      CHECK(WSTOPSIG(status) == SIGTRAP && code(address_of(pid) - 1) == kBreak);
      return true;
    }
    CHECK(os::now() < end && "an error must not hang it");
    usleep(200);
    asleep = sleeps(pid) ? asleep + 1 : 0;
    if (asleep == 8 && !roused) {
      roused = true;
      scenario.victim_sleeps();
    }
  }
}

uint32_t mutexes_held(pid_t victim) {
  robust_list_head* head = nullptr;
  size_t size = 0;
  CHECK(syscall(SYS_get_robust_list, victim, &head, &size) == 0);
  if (head == nullptr) return 0;
  const auto start = reinterpret_cast<uint64_t>(head);
  uint32_t count = 0;
  for (uint64_t at = start; count < 64; ++count) {
    errno = 0;
    at = static_cast<uint64_t>(ptrace(PTRACE_PEEKDATA, victim, at & ~1ull, nullptr)) & ~1ull;
    CHECK(errno == 0);
    if (at == start) return count;
  }
  return count;
}

#else

std::vector<int> errors_of_call(pid_t) { return {}; }
bool fail_call(Scenario&, int) { return false; }
uint32_t mutexes_held(pid_t) { return 0; }
const char* why_not() { return "only x86-64 can be stepped through so far"; }
void be_traced() {}
void wait_for_mark(pid_t) {}
void record(Scenario&, std::vector<Point>&) {}
bool advance(Scenario&, const Point&) { return false; }

#endif

}  // namespace shoal::exhaust
