// Floor 4: Semaphore and BoundedSemaphore, as users know them.
//
//   word: tag 18 | node + 1 of the last operation, 0: it had none 15 | value 31
//
// A bare acquire or release changes the value and nothing else: bare tokens are never given back, for consumers hold them rightly. A permit, what `with`
// takes, is also a node that names its slot. The compare-and-swap that changes the value publishes the node; whoever changes the
// word next first *helps*, that is, writes into the node that its operation happened. So a recoverer can always tell whether it did:
// either the word still says so, or the node does.
#pragma once

#include "object/object.hpp"
#include "sync/gate.hpp"

namespace shoal::sync {

constexpr uint32_t kSemaphoreMost = 0x7fffffff;  // SEM_VALUE_MAX of the C library

struct SemaphoreBody {
  std::atomic<uint64_t> word;  // the commit of every operation
  uint32_t maximum;            // constant
  uint32_t unused;
  Gate gate;
};

enum class Obtained { kYes, kTimeout, kInterrupted, kNoNode };

void init(SemaphoreBody& body, uint32_t value, uint32_t maximum);

inline uint32_t value_of(const SemaphoreBody& body) {
  return static_cast<uint32_t>(body.word.load(std::memory_order_acquire)) & kSemaphoreMost;
}

bool try_acquire(SemaphoreBody& body);
Obtained acquire(SemaphoreBody& body, uint32_t object, Wait& wait);
bool release(SemaphoreBody& body);  // false: it is at its maximum

// The same with a permit. `permit` is its node.
Obtained try_acquire_permit(SemaphoreBody& body, uint32_t object, uint32_t& permit);  // kYes, kTimeout, kNoNode
Obtained acquire_permit(SemaphoreBody& body, uint32_t object, Wait& wait, uint32_t& permit);
bool release_permit(SemaphoreBody& body,
                    uint32_t permit);  // false: the semaphore was at its maximum; the permit is gone in either case
bool is_my_permit(uint32_t permit,
                  uint32_t object);   // a forked child has its parent's list of permits, but not the permits
void forget_permit(uint32_t permit);  // it becomes a bare token

// Recovery: gives back the permit that the node of a dead process stands for, and frees the node. Idempotent.
void recover_permit(uint32_t node);

}  // namespace shoal::sync
