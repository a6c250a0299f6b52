#include "sync/company.hpp"

#include <algorithm>

namespace shoal::sync {

namespace {

struct Company {          // what a thread knows of those it waits for
  uint32_t together = 0;  // waits in a row
  uint64_t since = 0;     // when they began
  uint64_t until = 0;     // this thread's attempt to part: 0, or when it ends
  uint64_t began = 0;
};
thread_local Company company_;

// Of the process, so that many threads do not try all at once.
std::atomic<uint64_t> not_before{0};
std::atomic<uint32_t> in_vain{0};

void end_attempt(Company& c, Side& mine, bool parted, uint64_t now) {
  mine.stay_awake.store(0, std::memory_order_relaxed);
  c.until = 0;
  const uint32_t doublings = parted ? 0 : std::min(in_vain.load() + 1, kRarest);
  in_vain.store(doublings);
  not_before.store(now + ((now - c.began) * kRarely << doublings));
}

}  // namespace

void met_elsewhere(Side* mine) {
  Company& c = company_;
  c.together = 0;
  if (c.until != 0 && mine != nullptr) end_attempt(c, *mine, true, os::now());
}

void nobody_came(Side* mine) {
  if (company_.until != 0 && mine != nullptr) end_attempt(company_, *mine, false, os::now());
}

uint64_t spin_together(const Side& other, Side* mine) {
  if (other.stay_awake.load(std::memory_order_relaxed) != 0) return kUntilSeen;
  if (mine == nullptr) return 0;
  Company& c = company_;
  if (c.until != 0) {
    const uint64_t now = os::now();
    if (now < c.until) return c.until - now;
    end_attempt(c, *mine, false, now);
    return 0;
  }
  if (++c.together < kOftenTogether) {
    if (c.together == 1) c.since = os::now();
    return 0;
  }
  c.together = 0;
  const uint64_t now = os::now();
  uint64_t expected = not_before.load();
  if (now - c.since > kLively || now < expected) return 0;
  if (!not_before.compare_exchange_strong(expected, now + kUntilLooked)) return 0;  // another thread is at it
  if (!os::cores_suffice()) return 0;  // if so, another core is idle, as two share this one
  not_before.store(now + kUntilSeen * kRarely);
  c.began = now;
  c.until = now + kUntilSeen;
  mine->stay_awake.store(1, std::memory_order_relaxed);
  return kUntilSeen;
}

}  // namespace shoal::sync
