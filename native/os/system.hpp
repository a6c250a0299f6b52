// Floor 0: what the kernel and the clock give us. The only place that knows system call numbers.
#pragma once

#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <cerrno>
#include <climits>
#include <cstdint>
#include <ctime>

#include <atomic>

namespace shoal::os {

using Word = std::atomic<uint32_t>;
static_assert(sizeof(Word) == 4 && Word::is_always_lock_free, "a futex word is a plain 32-bit word");

constexpr uint64_t kNever = UINT64_MAX;  // a deadline that never comes

// Nanoseconds on CLOCK_MONOTONIC, the clock of every deadline here.
inline uint64_t now() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<uint64_t>(t.tv_sec) * 1'000'000'000u + static_cast<uint64_t>(t.tv_nsec);
}

inline timespec to_timespec(uint64_t nanoseconds) {
  return {static_cast<time_t>(nanoseconds / 1'000'000'000u), static_cast<long>(nanoseconds % 1'000'000'000u)};
}

// Tells the processor that this is a spin; how long one takes differs fifteenfold between processors, so spins are bounded by time.
inline void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("isb" ::: "memory");
#endif
}

// The core that this thread runs on, or has just run on: a few nanoseconds (restartable sequences, or the vDSO). 0 if unknown.
inline unsigned core() {
  const int cpu = sched_getcpu();
  return cpu < 0 ? 0 : static_cast<unsigned>(cpu);
}

inline void yield() { sched_yield(); }

// To an eventfd, which is readable then.
inline void add_one(int eventfd) {
  const uint64_t one = 1;
  while (write(eventfd, &one, sizeof one) < 0 && errno == EINTR) {
  }
}

enum class Wake { kWoken, kChanged, kTimeout, kSignal };

// Sleeps while *word == expected, at most until the deadline. One sleep: the caller looks again whatever is returned.
Wake futex_wait(Word& word, uint32_t expected, uint64_t deadline);

// The same on two words (futex_waitv); on kernels without it, sleeps on the first in slices of 50 ms.
Wake futex_wait_either(Word& first, uint32_t first_expected, Word& second, uint32_t second_expected, uint64_t deadline);

// Wakes at most `count` sleepers; returns how many there were.
int futex_wake(Word& word, int count);

// The descriptor, or a copy in its place that is not one of the standard three. A program that has closed its own gives their numbers to whatever is
// opened next, and then prints into it, or hands something else to its children there. Close-on-exec; -1 and errno.
int above_standard(int fd);

int memfd(const char* name);            // close-on-exec, above the standard three; -1 and errno
int pidfd_open(pid_t pid);              // the same
int pidfd_kill(int pidfd, int signal);  // 0, or -1 and errno
bool has_futex_waitv();                 // probed once
uint64_t start_ticks(pid_t pid);        // start time of a process in clock ticks since boot, 0 if there is none
bool process_is_gone(pid_t pid, uint64_t ticks);  // dead (a zombie counts), or its number now belongs to another
bool process_lives(pid_t pid, uint32_t ticks);    // of that start time, its low half; a zombie does not
unsigned usable_cores();                          // by affinity
bool cores_suffice();                             // no more threads of the machine want to run than it has cores
uint64_t memory_limit();                          // bytes: the smaller of the cgroup's limit and the machine's memory

// Asks for a signal whenever the thread ends whose child this process is: the one that has made it, or to which the kernel has handed it since.
void signal_at_end_of_parent(int signal);

inline pid_t thread_id() { return static_cast<pid_t>(syscall(SYS_gettid)); }
inline bool on_main_thread() { return thread_id() == getpid(); }

}  // namespace shoal::os
