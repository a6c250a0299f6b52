// Floor 3: control objects (locks, semaphores, channels, …): cells of 512 bytes, type-stable, recycled and never unmapped.
//
// Life of an object, all in one word:
//
//   FREE -> CLAIMED(by a slot) -> LIVE <-> RETIRED -> DESTROYING(by a slot) -> FREE, next generation
//
// Who holds it is a bitmap of slots beside it. A process sets its bit before it uses the object and clears it with its last reference. A
// forked child holds, without a bit, whatever existed at its fork: objects born before its window's end and not retired before its start.
// A message that mentions an object holds it through the list in its blob. RETIRED means that no bit is set; recovery/lifetime.cpp frees
// a retired object when no window covers it and no blob lists it. Taking hold of a retired object bumps `version`, so that a freeing
// that looked before fails.
#pragma once

#include "arena/cells.hpp"
#include "process/slots.hpp"

namespace shoal::object {

enum class Kind : uint32_t {
  kLock = 1,
  kRLock,
  kSemaphore,
  kEvent,
  kCondition,
  kBarrier,
  kChannel,
  kTaskTable,
  kWaiters,
  kMemory
};
enum class State : uint32_t { kFree = 0, kClaimed, kLive, kRetired, kDestroying };

// state 3 | kind 4 | listed 1 | owner 12 | version 16 | generation 28
struct Word {
  uint64_t raw;
  State state() const { return static_cast<State>(raw & 7); }
  Kind kind() const { return static_cast<Kind>(raw >> 3 & 15); }
  bool listed() const { return (raw >> 7 & 1) != 0; }  // has been mentioned in a message
  uint32_t owner() const { return static_cast<uint32_t>(raw >> 8 & 0xfff); }
  uint32_t version() const { return static_cast<uint32_t>(raw >> 20 & 0xffff); }
  uint32_t generation() const { return static_cast<uint32_t>(raw >> 36); }
  Word with(State s) const { return {(raw & ~7ull) | static_cast<uint64_t>(s)}; }
  Word with_owner(uint32_t o) const { return {(raw & ~(0xfffull << 8)) | static_cast<uint64_t>(o & 0xfff) << 8}; }
  Word with_version(uint32_t v) const { return {(raw & ~(0xffffull << 20)) | static_cast<uint64_t>(v & 0xffff) << 20}; }
  Word with_listed() const { return {raw | 1ull << 7}; }
  static Word make(State s, Kind k, uint32_t owner, uint32_t generation) {
    return {static_cast<uint64_t>(s) | static_cast<uint64_t>(k) << 3 | static_cast<uint64_t>(owner & 0xfff) << 8 |
            static_cast<uint64_t>(generation) << 36};
  }
};

struct Cell {
  std::atomic<uint64_t> birth;    // fork sequence number when it was made
  std::atomic<uint64_t> retired;  // … and when its last bit was cleared
  uint64_t padding[6];
  alignas(64) char body[arena::kObjectBytes - 64];
};
static_assert(sizeof(Cell) == arena::kObjectBytes);

inline std::atomic<uint64_t>& word(uint32_t index) {
  return *arena::at_table<std::atomic<uint64_t>>(arena::kObjectWordsAt, index);
}
inline Word load(uint32_t index) { return {word(index).load(std::memory_order_acquire)}; }

Cell* cell(uint32_t index);                      // nullptr: no address space
std::atomic<uint64_t>* holders(uint32_t index);  // kSlots / 64 words; nullptr: no address space

template <class T>
T* body(uint32_t index) {
  static_assert(sizeof(T) <= sizeof(Cell::body) && alignof(T) <= 64);
  Cell* c = cell(index);
  return c != nullptr ? reinterpret_cast<T*>(c->body) : nullptr;
}
inline uint64_t offset_of(uint32_t index, const void* inside) {
  return arena::kObjectsAt + index * arena::kObjectBytes +
         static_cast<uint64_t>(static_cast<const char*>(inside) - reinterpret_cast<const char*>(cell(index)));
}

// Makes an object held by this process: claim, the caller fills the body, publish. A death in between leaves a CLAIMED cell that names
// the dead, which recovery gives back.
arena::Status claim(Kind kind, uint32_t& index);
uint32_t publish(uint32_t index);  // returns its generation

// Takes hold of an object by reference. False when it is gone (another generation, another kind).
bool adopt(uint32_t index, uint32_t generation, Kind kind);
// A retired object that is held again goes back to LIVE with another version.
void revive(uint32_t index);
// Makes an inherited hold an explicit one; needed before the object is mentioned in a message.
void hold(uint32_t index);
void note_listed(uint32_t index);

// Lets go. True: the object is retired and, as nobody can have heard of it, may be destroyed at once.
bool release(uint32_t index);
void release_for(uint32_t index, uint32_t slot);  // recovery: for a dead slot
bool held_by_nobody(uint32_t index);
bool may_be_held_by(uint32_t index, uint32_t slot);  // explicitly, or by inheritance
void retire_if_unheld(uint32_t index);
// RETIRED -> DESTROYING by this slot, if it is still the word that was seen.
bool begin_destroy(uint32_t index, Word seen);
void end_destroy(uint32_t index);  // -> FREE, next generation

}  // namespace shoal::object
