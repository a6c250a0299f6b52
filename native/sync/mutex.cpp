#include "sync/mutex.hpp"

#include <csignal>

#include <algorithm>

namespace shoal::sync {

namespace {

constexpr uint64_t kSpin = 3'000;        // ns: several times what a section takes
constexpr uint64_t kSlice = 20'000'000;  // ns between looks at signals

int lock_until(pthread_mutex_t& mutex, uint64_t deadline) {
#if defined(__SANITIZE_THREAD__)  // ThreadSanitizer of older compilers does not know clocklock
  int error = EBUSY;
  while ((error = pthread_mutex_trylock(&mutex)) == EBUSY && os::now() < deadline) usleep(20);
  return error;
#else
  const timespec t = os::to_timespec(deadline);
  return pthread_mutex_clocklock(&mutex, CLOCK_MONOTONIC, &t);
#endif
}

Lock outcome(int error) { return error == EOWNERDEAD ? Lock::kTakenFromDead : Lock::kTaken; }

}  // namespace

void init(Mutex& mutex) {
  pthread_mutexattr_t attributes;
  pthread_mutexattr_init(&attributes);
  pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
  pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
  pthread_mutex_init(&mutex.native, &attributes);
  pthread_mutexattr_destroy(&attributes);
}

Lock lock(Mutex& mutex, Wait& wait) {
  int error = pthread_mutex_trylock(&mutex.native);
  if (error == 0 || error == EOWNERDEAD) return outcome(error);
  const uint64_t end = os::now() + kSpin;
  do {
    for (int i = 0; i < 8; ++i) os::relax();
    error = pthread_mutex_trylock(&mutex.native);
    if (error == 0 || error == EOWNERDEAD) return outcome(error);
  } while (os::now() < end);
  wait.begin();
  for (;;) {
    error = lock_until(mutex.native, os::now() + kSlice);
    if (error == 0 || error == EOWNERDEAD) return outcome(error);
    if (wait.should_stop()) return Lock::kInterrupted;
    // A holder in the middle of a section is about to leave it, so a deadline of "now" still waits one slice.
    if (wait.expired()) return Lock::kTimeout;
  }
}

Lock try_lock(Mutex& mutex) {
  const int error = pthread_mutex_trylock(&mutex.native);
  return error == 0 || error == EOWNERDEAD ? outcome(error) : Lock::kTimeout;
}

bool lock_if_holder_is_dead(Mutex& mutex) {
  auto& word = reinterpret_cast<os::Word&>(mutex.native.__data.__lock);
  uint32_t value = word.load();
  if (value == 0) return false;
  if ((value & FUTEX_OWNER_DIED) == 0) {
    // The out-of-memory reaper can free a thread's robust list before the kernel has walked it; then the mark is missing. Do what the
    // kernel would have done, if there is no such thread any more.
    const auto tid = static_cast<pid_t>(value & FUTEX_TID_MASK);
    if (tid == 0 || syscall(SYS_tkill, tid, 0) == 0 || errno != ESRCH) return false;
    if (!word.compare_exchange_strong(value, (value & FUTEX_WAITERS) | FUTEX_OWNER_DIED)) return false;
    os::futex_wake(word, 1);
  }
  return pthread_mutex_trylock(&mutex.native) == EOWNERDEAD;
}

void repaired(Mutex& mutex) { pthread_mutex_consistent(&mutex.native); }
void unlock(Mutex& mutex) { pthread_mutex_unlock(&mutex.native); }

}  // namespace shoal::sync
