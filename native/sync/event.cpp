#include "sync/event.hpp"

namespace shoal::sync {

void set(EventBody& body) {
  uint32_t seen = body.word.load();
  do {
    if ((seen & 1) != 0) return;  // who set it wakes, or recovery in its place
  } while (!body.word.compare_exchange_weak(seen, (seen + 2) | 1));
  open_all(body.gate);
}

void clear(EventBody& body) { body.word.fetch_and(~1u); }

Waited wait(EventBody& body, uint32_t object, Wait& wait) {
  const uint32_t start = body.word.load(std::memory_order_acquire);
  if ((start & 1) != 0) return Waited::kYes;
  if (wait.expired()) return Waited::kTimeout;
  const auto over = [&] { return body.word.load() != start; };  // cleared, it can only change by being set
  wait.begin();
  if (spin(over)) return Waited::kYes;
  Sleeper sleeper;
  Waited result = Waited::kYes;
  for (;;) {
    announce(body.gate, sleeper);
    if (over()) break;
    const Slept slept = sleep(body.gate, sleeper, object, object::offset_of(object, &body.gate), wait);
    if (slept == Slept::kAgain || (slept == Slept::kTimeout && over())) continue;
    result = slept == Slept::kTimeout ? Waited::kTimeout : Waited::kInterrupted;
    break;
  }
  leave(body.gate, sleeper, false);
  return result;
}

}  // namespace shoal::sync
