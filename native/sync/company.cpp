#include "sync/company.hpp"

#include <algorithm>

namespace shoal::sync {

namespace {

// Of the process, so that many threads do not try all at once.
std::atomic<uint64_t> not_before{0};
std::atomic<uint32_t> in_vain{0};

void end_attempt(Company& c, bool parted, uint64_t now) {
  c.mine->stay_awake.store(0, std::memory_order_relaxed);
  c.until = 0;
  const uint32_t doublings = parted ? 0 : std::min(in_vain.load() + 1, kRarest);
  in_vain.store(doublings);
  not_before.store(now + ((now - c.began) * kRarely << doublings));
}

}  // namespace

void met_elsewhere(Company& c) {
  c.together = 0;
  if (c.until != 0) end_attempt(c, true, os::now());
}

void nobody_came(Company& c) {
  if (c.until != 0) end_attempt(c, false, os::now());
}

void leave(Company& c) {
  nobody_came(c);
  c.together = 0;
}

uint64_t spin_together(const Side& other, Company& c) {
  if (other.stay_awake.load(std::memory_order_relaxed) != 0) return kUntilSeen;
  if (c.mine == nullptr) return 0;
  if (c.until != 0) {
    const uint64_t now = os::now();
    if (now < c.until) return c.until - now;
    end_attempt(c, false, now);
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
  c.mine->stay_awake.store(1, std::memory_order_relaxed);
  return kUntilSeen;
}

}  // namespace shoal::sync
