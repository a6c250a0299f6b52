#include "channel/doorbell.hpp"

namespace shoal::channel {

// SYNC POINT: the store of `listening` and the look at the ring here, against the ring's commit and the look at `listening` in call(): all in one order.
bool listen(Channel& c) {
  c.listening.exchange(1);
  if (is_empty(c.ring)) return true;
  c.listening.store(0, std::memory_order_relaxed);  // a producer that has seen it rings all the same: for nothing
  return false;
}

void call(Channel& c, int bell) {
#if !defined(__SANITIZE_THREAD__)  // which knows no fences
  std::atomic_thread_fence(std::memory_order_seq_cst);
  if (c.listening.load(std::memory_order_relaxed) == 0) return;
#endif
  if (c.listening.exchange(0) == 0) return;
  os::add_one(bell);
}

}  // namespace shoal::channel
