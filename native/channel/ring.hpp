// Floor 6: a ring of messages, the core of every channel: many producers, many consumers, unbounded by linking segments of 64 KiB.
//
//   tail (producers, under tail_mutex) and head (consumers, under head_mutex): one 64-bit word each, {count 28 | offset/16 12 | segment 24}.
//   Storing tail commits a put, storing head commits a get. SYNC POINT: the release store of tail pairs with the acquire load of it in take().
//
// What is written beyond tail by a killed producer is overwritten by the next one. A blob changes hands inside the section, before the commit; `Pending`
// says so first, and whoever finds the mutex's holder dead (repair) sees from head or tail whether the commit happened and, if not, undoes it.
#pragma once

#include "blob/blob.hpp"
#include "sync/gate.hpp"
#include "sync/mutex.hpp"

namespace shoal::channel {

constexpr uint32_t kInline = 8192;  // bytes of payload in the ring itself; what is larger is a blob
constexpr uint32_t kNoSegment = 0xffffff;

struct Position {
  uint64_t raw = 0;
  uint32_t segment() const { return static_cast<uint32_t>(raw & 0xffffff); }
  uint32_t offset() const { return static_cast<uint32_t>(raw >> 24 & 0xfff) * 16; }
  uint32_t count() const { return static_cast<uint32_t>(raw >> 36); }
  static Position make(uint32_t segment, uint32_t offset, uint32_t count) {
    return {static_cast<uint64_t>(segment) | static_cast<uint64_t>(offset / 16) << 24 |
            static_cast<uint64_t>(count & 0xfffffff) << 36};
  }
  bool operator==(const Position&) const = default;
};
// How many messages lie between two positions; right as long as fewer than 2^27 are.
inline uint32_t between(Position head, Position tail) { return (tail.count() - head.count()) & 0xfffffff; }

enum class Kind : uint32_t { kInline = 0, kBlob = 1, kEnd = 2 };  // kEnd: the rest of the segment is unused

struct MessageHead {
  uint32_t bytes;  // of inline payload
  uint16_t kind;
  uint16_t flags;  // the user's
  uint64_t tag;    // the user's: a task's id; of a blob message, its name is the payload
};
static_assert(sizeof(MessageHead) == 16, "offsets are counted in 16 bytes");

// What the section's holder is about to do that is more than one store. Valid while `slot` is not 0.
struct Pending {
  std::atomic<uint64_t> at;    // head or tail before the operation
  std::atomic<uint64_t> blob;  // its name, 0: none
  std::atomic<uint32_t> slot;  // slot + 1 of who does it
};

struct Ring {
  // constant after creation
  uint32_t object;               // its own index
  std::atomic<uint32_t> strays;  // a repair of the tail alone may have left a segment that nothing links to
  alignas(64) sync::Mutex tail_mutex;
  std::atomic<uint64_t> tail;
  std::atomic<uint32_t> first;  // the first segment ever: where a head that has none starts
  alignas(64) Pending putting;
  alignas(64) sync::Mutex head_mutex;
  std::atomic<uint64_t> head;
  uint64_t seen_tail;  // under head_mutex: saves consumers from reading the producers' line for each message
  alignas(64) Pending getting;
};
static_assert(sizeof(sync::Mutex) + 24 <= 64, "a side's mutex and word share one cache line");
static_assert(sizeof(Ring) == 320);

struct Message {
  const void* data = "";
  uint32_t bytes = 0;
  uint16_t flags = 0;
  uint64_t tag = 0;
  blob::Name blob;  // instead of data
  uint64_t blob_bytes = 0;
};

struct Taken {
  void* buffer = nullptr;  // of kInline bytes, the caller's
  uint32_t bytes = 0;
  uint16_t flags = 0;
  uint64_t tag = 0;
  blob::Name blob;                  // owned by this process now
  bool more = false;                // there was another message behind it
  const uint32_t* heard = nullptr;  // calls (channel.hpp, wake) up to here are known; nullptr: up to now
};

enum class Result { kDone, kEmpty, kFull, kNoMemory, kInterrupted, kTimeout };

void init(Ring& ring, uint32_t object);

// Hooks inside the sections; they may touch only the arena.
struct PutHook {
  bool (*may_put)(void*) = nullptr;  // under tail_mutex: false is kFull
  void (*before_commit)(void*) = nullptr;
  void* state = nullptr;
};
struct TakeHook {
  void (*before_commit)(void*, const MessageHead&) = nullptr;  // under head_mutex
  void (*when_empty)(void*) = nullptr;                         // under head_mutex, if the ring is (now) empty
  void* state = nullptr;
};

// What repair has to do beyond the ring's own words, for the kind of object the ring is part of. Called under the mutex named.
struct Repairs {
  void (*head)(Ring& ring, uint32_t dead_slot, bool committed) = nullptr;
  void (*tail)(Ring& ring) = nullptr;
};

Result put(Ring& ring, const Message& message, sync::Wait& wait, const PutHook& hook, const Repairs& repairs);
Result take(Ring& ring, Taken& out, sync::Wait& wait, const TakeHook& hook, const Repairs& repairs);

inline uint32_t length(const Ring& ring) {
  const Position h{ring.head.load(std::memory_order_acquire)};
  return between(h, Position{ring.tail.load(std::memory_order_acquire)});
}
inline bool is_empty(const Ring& ring) { return length(ring) == 0; }

// The sections, for operations that belong to a kind of object (a joinable queue's accounts). kDone, or why not.
Result enter_head(Ring& ring, sync::Wait& wait, const Repairs& repairs);
Result enter_tail(Ring& ring, sync::Wait& wait, const Repairs& repairs);

// Recovery: finishes what a dead process was doing in a section. Waits for a live process that is just repairing it.
void recover(Ring& ring, uint32_t dead_slot, const Repairs& repairs);
// Destroys what is left in it: messages, their blobs, segments. Idempotent.
void clear(Ring& ring, const Repairs& repairs);

}  // namespace shoal::channel
