// What the tests of the synchronisation objects share: objects, children, and patience.
#pragma once

#include <sys/mman.h>
#include <sys/wait.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

#include "recovery/lifetime.hpp"
#include "recovery/recovery.hpp"
#include "sync/barrier.hpp"
#include "sync/condition.hpp"
#include "sync/event.hpp"
#include "sync/lock.hpp"
#include "sync/semaphore.hpp"

#define CHECK(condition)                                                             \
  do {                                                                               \
    if (!(condition)) {                                                              \
      std::fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition); \
      std::_Exit(1);                                                                 \
    }                                                                                \
  } while (false)

namespace shoal::test {

constexpr uint64_t kMillisecond = 1'000'000, kSecond = 1'000 * kMillisecond;

template <class Body>
struct Made {
  uint32_t index = 0;
  Body* body = nullptr;
  template <class Fill>
  Made(object::Kind kind, Fill fill) {
    CHECK(object::claim(kind, index) == arena::Status::kOk);
    body = object::body<Body>(index);
    fill(*body);
    object::publish(index);
  }
  ~Made() { recovery::let_go(index); }
  Made(const Made&) = delete;
  Made& operator=(const Made&) = delete;
};

inline Made<sync::LockBody> make_lock(object::Kind kind = object::Kind::kLock) {
  return {kind, [](sync::LockBody& b) { sync::init(b, false); }};
}
inline Made<sync::SemaphoreBody> make_semaphore(uint32_t value, uint32_t maximum) {
  return {object::Kind::kSemaphore, [=](sync::SemaphoreBody& b) { sync::init(b, value, maximum); }};
}
inline Made<sync::EventBody> make_event() {
  return {object::Kind::kEvent, [](sync::EventBody&) {}};
}
inline Made<sync::WaitersBody> make_waiters() {
  return {object::Kind::kCondition, [](sync::WaitersBody&) {}};
}
inline Made<sync::BarrierBody> make_barrier(uint32_t parties) {
  return {object::Kind::kBarrier, [=](sync::BarrierBody& b) { sync::init(b, parties); }};
}

inline sync::Wait within(uint64_t nanoseconds) {
  sync::Wait wait;
  wait.deadline = nanoseconds == 0 ? 0 : os::now() + nanoseconds;
  return wait;
}

// Memory of this test alone, shared with its children.
struct Shared {
  std::atomic<uint32_t> ready, go, counter, inside, abandoned;
  std::atomic<uint64_t> progress[16];
};
inline Shared* shared = nullptr;

template <class Work>
pid_t child(Work work) {
  const pid_t pid = fork();
  CHECK(pid >= 0);
  if (pid != 0) {
    process::set_pid(process::last_fork(), pid);
    return pid;
  }
  work();
  std::_Exit(0);
}

inline void end(pid_t pid, int signal) {
  if (signal != 0) kill(pid, signal);
  CHECK(waitpid(pid, nullptr, 0) == pid);
}

template <class Condition>
void until(Condition condition) {
  const uint64_t limit = os::now() + 20 * kSecond;
  while (!condition()) {
    CHECK(os::now() < limit);
    usleep(200);
  }
}

inline uint32_t nodes_in_use() {
  uint32_t count = 0;
  for (uint32_t i = 0; i < arena::grown(arena::kNodeTable); ++i) count += process::node(i).owner.load() != 0 ? 1 : 0;
  return count;
}

inline void prepare(unsigned seconds) {
  alarm(seconds);  // the watchdog
  CHECK(arena::create(0) == arena::Status::kOk);
  recovery::init();
  process::watch_forks();
  CHECK(process::claim(0));
  shared =
      static_cast<Shared*>(mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  CHECK(shared != MAP_FAILED);
}

}  // namespace shoal::test
