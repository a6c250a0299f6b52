// Floor 5: blobs, the large payloads of messages. A blob is one cell of a power-of-two size class; address space is plentiful, so only the pages
// that a payload needs get memory. One word says whose it is.
//
//   FREE -> OWNED(slot) -> CARRIED (by the message that names it) -> OWNED(receiver) -> FREE
//
// A receiver that forks while it uses a blob shares it with the child, which no word says. So a blob that was received before a fork does not go from
// OWNED to FREE but to LIMBO, until recovery/lifetime.cpp finds that no child of that time is left.
//
// A blob can also belong to an object for as long as that lives (memory/memory.hpp): OWNED(slot) -> KEPT -> FREE.
//
// A freed blob keeps its pages, for the next one of its size, until the arena keeps more than `kept_limit`; then they are punched out.
#pragma once

#include "arena/cells.hpp"
#include "process/slots.hpp"

namespace shoal::blob {

enum class State : uint32_t { kFree = 0, kOwned = 1, kCarried = 2, kLimbo = 3, kKept = 4 };

// state 3 | listed 1 | owner 12 | backed pages 25 | generation 23
struct Word {
  uint64_t raw;
  State state() const { return static_cast<State>(raw & 7); }
  bool listed() const { return (raw >> 3 & 1) != 0; }  // its header lists objects that it keeps alive
  uint32_t owner() const { return static_cast<uint32_t>(raw >> 4 & 0xfff); }
  uint64_t backed() const { return raw >> 16 & 0x1ffffff; }
  uint32_t generation() const { return static_cast<uint32_t>(raw >> 41); }
  static Word make(State s, bool listed, uint32_t owner, uint64_t backed, uint32_t generation) {
    return {static_cast<uint64_t>(s) | static_cast<uint64_t>(listed) << 3 | static_cast<uint64_t>(owner & 0xfff) << 4 |
            (backed & 0x1ffffff) << 16 | static_cast<uint64_t>(generation) << 41};
  }
};

// What a message carries: generation 23 | class 5 | index 20. Bit 63 is set in every name, so 0 is none.
struct Name {
  uint64_t raw = 0;
  uint32_t size_class() const { return static_cast<uint32_t>(raw >> 20 & 31); }
  uint32_t index() const { return static_cast<uint32_t>(raw & 0xfffff); }
  uint32_t generation() const { return static_cast<uint32_t>(raw >> 25 & 0x7fffff); }
  bool there() const { return raw >> 63 != 0; }
  static Name make(uint32_t size_class, uint32_t index, uint32_t generation) {
    return {1ull << 63 | static_cast<uint64_t>(generation & 0x7fffff) << 25 | static_cast<uint64_t>(size_class) << 20 |
            index};
  }
};

struct Mention {  // an object that the blob keeps alive
  uint32_t object, generation;
};

// At the start of the cell; the payload follows, then the mentions.
struct Head {
  uint64_t payload_bytes;
  uint32_t mentions;
  uint32_t unused;
  uint64_t birth;    // fork sequence number when it was received
  uint64_t retired;  // … and when it went to limbo
  uint64_t padding[4];
};
static_assert(sizeof(Head) == 64, "payloads start on a cache line");

std::atomic<uint64_t>& word(Name name);
inline Word load(Name name) { return {word(name).load(std::memory_order_acquire)}; }

// A blob owned by this process. The caller writes the payload, and sets the mentions with list(). `zeroed`: the payload is all zeros.
arena::Status allocate(uint64_t payload_bytes, uint32_t mentions, Name& name, bool zeroed = false);
Head* head(Name name);  // nullptr: no address space
inline char* payload(Head* h) { return reinterpret_cast<char*>(h) + sizeof(Head); }
Mention* mentions(Head* h);
void set_listed(Name name);

// Owner changes. Each is one compare-and-swap, and false when the blob is not what the caller believes.
bool carry(Name name);                                    // OWNED(me) -> CARRIED
bool take(Name name);                                     // CARRIED -> OWNED(me)
bool give(Name name, uint32_t from_slot, uint32_t slot);  // OWNED(from) -> OWNED(slot)
bool put_back(Name name, uint32_t from_slot);             // OWNED(from) -> CARRIED: a get that did not happen
bool free_owned(Name name, uint32_t slot);                // OWNED(slot) -> FREE
bool free_carried(Name name);                             // CARRIED -> FREE
bool retire(Name name, uint32_t slot);                    // OWNED(slot) -> LIMBO
bool free_limbo(Name name);                               // LIMBO -> FREE
bool keep(Name name);                                     // OWNED(me) -> KEPT: its object names it
bool free_kept(Name name);                                // KEPT -> FREE

// Gives the pages of free blobs back until `bytes` have been found; returns how many.
uint64_t trim(uint64_t bytes);

// Calls visit(name, word) for each blob in use.
template <class Visit>
void for_each(Visit visit) {
  for (uint32_t k = 0; k < arena::kBlobClasses; ++k) {
    const uint32_t end = arena::grown(arena::kBlobTable + k);
    auto* words = arena::at_table<std::atomic<uint64_t>>(arena::kBlobWordsAt, arena::blob_first_word(k));
    for (uint32_t i = 0; i < end; ++i) {
      const Word w{words[i].load(std::memory_order_acquire)};
      if (w.state() != State::kFree) visit(Name::make(k, i, w.generation()), w);
    }
  }
}

}  // namespace shoal::blob
