#include "sync/turn.hpp"

#include "os/system.hpp"

namespace shoal::sync::turn {

namespace {

constexpr uint32_t kFree = 0, kOffered = 1;  // kOffered: to one of those who have slept for it
os::Word turn{kFree};                        // else the number of a turn, which no other has had for a long time
os::Word waiting{0};
os::Word last{kOffered};
thread_local uint32_t mine = 0;
thread_local uint64_t since = 0;  // when this thread's run began; 0: nobody waited since

uint32_t new_number() {
  uint32_t number = kFree;
  while (number <= kOffered) number = last.fetch_add(1) + 1;
  return number;
}

bool try_to_take(bool slept) {
  uint32_t now = turn.load(std::memory_order_relaxed);
  if (now != kFree && !(slept && now == kOffered)) return false;
  const uint32_t number = new_number();
  if (!turn.compare_exchange_strong(now, number)) return false;
  mine = number;
  return true;
}

}  // namespace

bool is_wanted() { return waiting.load() != 0; }

void take() {
  if (mine != 0 || try_to_take(false)) return;
  since = 0;
  waiting.fetch_add(1);
  for (bool slept = false; !try_to_take(slept);) {
    uint32_t holder = turn.load();
    if (holder == kFree || (slept && holder == kOffered)) continue;
    const os::Wake woken = os::futex_wait(turn, holder, os::now() + kPatience);
    slept = true;
    if (woken == os::Wake::kTimeout) turn.compare_exchange_strong(holder, kFree);  // the same one still: pass it by
  }
  waiting.fetch_sub(1);
}

void put_down() {
  if (mine == 0) return;
  uint32_t expected = mine;
  mine = 0;
  turn.compare_exchange_strong(expected, kFree);  // it may have been passed by
}

void offer() {
  since = 0;
  uint32_t free = kFree;
  if (!is_wanted() || !turn.compare_exchange_strong(free, kOffered)) return;
  if (os::futex_wake(turn, 1) > 0) return;
  uint32_t offered = kOffered;  // nobody sleeps yet
  turn.compare_exchange_strong(offered, kFree);
}

bool may_keep() {
  const uint64_t now = os::now();
  if (since == 0) since = now;
  return now - since < kQuantum;
}

}  // namespace shoal::sync::turn
