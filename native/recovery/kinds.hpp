// Floor 7: what recovery and destruction mean for each kind of object, in one place.
#pragma once

#include "channel/channel.hpp"
#include "channel/segment.hpp"
#include "memory/memory.hpp"
#include "sync/barrier.hpp"
#include "sync/condition.hpp"
#include "sync/lock.hpp"
#include "sync/semaphore.hpp"

namespace shoal::recovery {

// Gives back what the dead process had of this object. Idempotent.
inline void recover_kind(object::Kind kind, uint32_t index, uint32_t dead) {
  switch (kind) {
    case object::Kind::kChannel:
    case object::Kind::kTaskTable:
      channel::recover(index, dead);
      break;
    case object::Kind::kLock:
    case object::Kind::kRLock:
      sync::recover_lock(index, dead);
      break;
    case object::Kind::kBarrier:
      sync::recover_barrier(index, dead);
      break;
    default:
      break;
  }
}

// Gives back what a node of the dead process stands for, and frees it. Idempotent. Before the holds of the dead are dropped, for they keep the
// node's object.
inline void recover_node(uint32_t node) {
  switch (static_cast<process::NodeKind>(process::node(node).kind.load())) {
    case process::NodeKind::kPermit:
      sync::recover_permit(node);
      break;
    case process::NodeKind::kParty:
      sync::recover_party(node);
      break;
    case process::NodeKind::kWaiter:
      sync::recover_waiter(node);
      break;
    default:
      process::free_node(node);
  }
}

// An object whose maker died before it was published: gives back what it had got so far. Idempotent.
inline void abandon_kind(object::Kind kind, uint32_t index) {
  if (kind == object::Kind::kMemory)
    memory::destroy(index);
  else
    channel::free_segments_of(index);
}

inline void destroy_kind(object::Kind kind, uint32_t index) {
  switch (kind) {
    case object::Kind::kChannel:
    case object::Kind::kTaskTable:
      channel::destroy(index);
      break;
    case object::Kind::kMemory:
      memory::destroy(index);
      break;
    default:
      break;  // nothing outside its cell
  }
}

}  // namespace shoal::recovery
