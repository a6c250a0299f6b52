// Floor 4: Event, as users know it. One word: the flag, and an epoch that counts settings, so that set() followed at once by clear() still releases
// everybody who was waiting.
#pragma once

#include "object/object.hpp"
#include "sync/gate.hpp"

namespace shoal::sync {

struct EventBody {
  std::atomic<uint32_t> word;  // epoch 31 | set 1; the commit of set and clear
  Gate gate;
};

enum class Waited { kYes, kTimeout, kInterrupted };

inline bool is_set(const EventBody& body) { return (body.word.load(std::memory_order_acquire) & 1) != 0; }
void set(EventBody& body);
void clear(EventBody& body);
Waited wait(EventBody& body, uint32_t object, Wait& wait);

// A dead process leaves nothing behind in an event: recovery wakes those to whom it owed a wake-up.

}  // namespace shoal::sync
