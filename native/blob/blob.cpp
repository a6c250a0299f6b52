#include "blob/blob.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

namespace shoal::blob {

namespace {

constexpr uint64_t kKeptMost = 256 * arena::kMiB;
constexpr uint64_t kPopulateFrom = arena::kMiB;  // mapping in one call beats as many page faults
thread_local uint32_t hints_[arena::kBlobClasses];

constexpr arena::TableShape shape_of(uint32_t k) {
  return {arena::kBlobTable + k,
          arena::blob_cells(k),
          std::min(64u, arena::blob_cells(k)),
          {{arena::kBlobWordsAt + arena::blob_first_word(k) * 8ull, 8}, {0, 0}, {0, 0}}};
}

uint64_t offset_of(Name name) {
  return arena::kBlobsAt + name.size_class() * arena::kBlobRegion + name.index() * arena::blob_bytes(name.size_class());
}

uint64_t kept_limit() { return std::min(kKeptMost, arena::header().quota / 8); }

// Bytes that free blobs keep, as far as known: adjusted by frees and claims, set right by trim().
std::atomic<uint64_t>& kept() { return arena::header().kept; }

bool swap(Name name, Word from, Word to) { return word(name).compare_exchange_strong(from.raw, to.raw); }

bool is(Name name, Word w, State state) { return w.state() == state && w.generation() == name.generation(); }

bool free_from(Name name, Word w) {
  uint64_t pages = w.backed();
  const uint64_t bytes = pages * arena::kPage;
  if (bytes == 0 || kept().load(std::memory_order_relaxed) + bytes > kept_limit()) {
    // Punch while it is still owned: once it is free, somebody else may be writing into it. A word that speaks of no pages is one whose owner was killed
    // while it gave or took them: whoever frees it punches as well.
    const Word empty = Word::make(w.state(), false, w.owner(), 0, w.generation());
    if (bytes != 0 && !swap(name, w, empty)) return false;
    w = empty;
    // What could not be given back is kept.
    if (arena::punch(offset_of(name), arena::blob_bytes(name.size_class())) == arena::Status::kOk) pages = 0;
  }
  if (!swap(name, w, Word::make(State::kFree, false, 0, pages, w.generation() + 1))) return false;
  if (pages != 0) kept().fetch_add(bytes, std::memory_order_relaxed);
  hints_[name.size_class()] = name.index();
  return true;
}

}  // namespace

std::atomic<uint64_t>& word(Name name) {
  return *arena::at_table<std::atomic<uint64_t>>(arena::kBlobWordsAt,
                                                 arena::blob_first_word(name.size_class()) + name.index());
}

arena::Status allocate(uint64_t payload_bytes, uint32_t mention_count, Name& name, bool zeroed) {
  const uint64_t bytes = sizeof(Head) + arena::align(payload_bytes, 8) + mention_count * sizeof(Mention);
  uint32_t k = 0;
  while (k < arena::kBlobClasses && arena::blob_bytes(k) < bytes) ++k;
  if (k == arena::kBlobClasses) {
    arena::last_failure() = {bytes, arena::bytes_in_use(), arena::header().quota, ENOMEM};
    return arena::Status::kNoMemory;
  }
  uint32_t index = 0;
  auto* words = arena::at_table<std::atomic<uint64_t>>(arena::kBlobWordsAt, arena::blob_first_word(k));
  const uint32_t me = process::mine();
  arena::Status status = arena::claim_cell(
      shape_of(k), hints_[k],
      [&](uint32_t i) { return Word{words[i].load(std::memory_order_relaxed)}.state() == State::kFree; },
      [&](uint32_t i) {
        Word w{words[i].load()};
        return w.state() == State::kFree &&
               words[i].compare_exchange_strong(w.raw,
                                                Word::make(State::kOwned, false, me, w.backed(), w.generation()).raw);
      },
      index);
  if (status != arena::Status::kOk) return status;
  Word w{words[index].load()};
  name = Name::make(k, index, w.generation());
  if (w.backed() != 0) {
    const uint64_t had = w.backed() * arena::kPage, known = kept().load(std::memory_order_relaxed);
    kept().fetch_sub(std::min(had, known), std::memory_order_relaxed);
  }
  const uint64_t used_before = w.backed() * arena::kPage;  // what lies beyond has not been touched since it was given
  const uint64_t pages = arena::align(bytes, arena::kPage) / arena::kPage;
  if (w.backed() < pages) {
    const uint64_t from = w.backed() * arena::kPage, more = (pages - w.backed()) * arena::kPage;
    if (from != 0) {  // until it has them all it speaks of none
      const Word none = Word::make(State::kOwned, false, me, 0, w.generation());
      swap(name, w, none);
      w = none;
    }
    status = arena::commit(offset_of(name) + from, more);
    if (status == arena::Status::kNoMemory && trim(more) != 0) status = arena::commit(offset_of(name) + from, more);
    if (status != arena::Status::kOk) {
      const arena::Failure failure = arena::last_failure();
      free_from(name, w);
      arena::last_failure() = failure;
      return status;
    }
    swap(name, w, Word::make(State::kOwned, false, me, pages, w.generation()));
  }
  Head* h = head(name);
  if (h == nullptr) {
    free_from(name, load(name));
    return arena::Status::kSystem;
  }
  if (bytes >= kPopulateFrom) madvise(h, arena::align(bytes, arena::kPage), MADV_POPULATE_WRITE);
  if (zeroed && used_before != 0) std::memset(payload(h), 0, std::min(payload_bytes, used_before - sizeof(Head)));
  h->birth = arena::header().fork_sequence.load();
  h->payload_bytes = payload_bytes;
  h->mentions = mention_count;
  return arena::Status::kOk;
}

Head* head(Name name) {
  return reinterpret_cast<Head*>(arena::cell(offset_of(name), arena::blob_bytes(name.size_class())));
}

Mention* mentions(Head* h) { return reinterpret_cast<Mention*>(payload(h) + arena::align(h->payload_bytes, 8)); }

void set_listed(Name name) { word(name).fetch_or(1ull << 3); }

bool carry(Name name) {
  const Word w = load(name);
  return is(name, w, State::kOwned) && w.owner() == process::mine() &&
         swap(name, w, Word::make(State::kCarried, w.listed(), 0, w.backed(), w.generation()));
}

bool take(Name name) {
  const Word w = load(name);
  return is(name, w, State::kCarried) &&
         swap(name, w, Word::make(State::kOwned, w.listed(), process::mine(), w.backed(), w.generation()));
}

bool give(Name name, uint32_t from_slot, uint32_t slot) {
  const Word w = load(name);
  return is(name, w, State::kOwned) && w.owner() == from_slot &&
         swap(name, w, Word::make(State::kOwned, w.listed(), slot, w.backed(), w.generation()));
}

bool put_back(Name name, uint32_t from_slot) {
  const Word w = load(name);
  return is(name, w, State::kOwned) && w.owner() == from_slot &&
         swap(name, w, Word::make(State::kCarried, w.listed(), 0, w.backed(), w.generation()));
}

bool free_owned(Name name, uint32_t slot) {
  const Word w = load(name);
  return is(name, w, State::kOwned) && w.owner() == slot && free_from(name, w);
}

bool retire(Name name, uint32_t slot) {
  const Word w = load(name);
  Head* h = head(name);
  if (!is(name, w, State::kOwned) || w.owner() != slot || h == nullptr) return false;
  h->retired = arena::header().fork_sequence.load();
  return swap(name, w, Word::make(State::kLimbo, false, 0, w.backed(), w.generation()));
}

bool free_limbo(Name name) {
  const Word w = load(name);
  return is(name, w, State::kLimbo) && free_from(name, w);
}

bool keep(Name name) {
  const Word w = load(name);
  return is(name, w, State::kOwned) && w.owner() == process::mine() &&
         swap(name, w, Word::make(State::kKept, false, 0, w.backed(), w.generation()));
}

bool free_kept(Name name) {
  const Word w = load(name);
  return is(name, w, State::kKept) && free_from(name, w);
}

bool free_carried(Name name) {
  const Word w = load(name);
  return is(name, w, State::kCarried) && free_from(name, w);
}

uint64_t trim(uint64_t bytes) {
  uint64_t found = 0, left = 0;
  const uint32_t me = process::mine();
  for (uint32_t k = arena::kBlobClasses; k-- > 0;) {
    const uint32_t end = arena::grown(arena::kBlobTable + k);
    for (uint32_t i = 0; i < end; ++i) {
      Word w{word(Name::make(k, i, 0)).load(std::memory_order_relaxed)};
      if (w.state() != State::kFree || w.backed() == 0) continue;
      const uint64_t here = w.backed() * arena::kPage;
      if (found >= bytes) {
        left += here;
        continue;
      }
      const Name name = Name::make(k, i, w.generation());
      const Word mine = Word::make(State::kOwned, false, me, 0, w.generation());
      if (!swap(name, w, mine)) continue;
      const bool punched = arena::punch(offset_of(name), arena::blob_bytes(k)) == arena::Status::kOk;
      swap(name, mine, Word::make(State::kFree, false, 0, punched ? 0 : w.backed(), w.generation() + 1));
      (punched ? found : left) += here;
    }
  }
  kept().store(left, std::memory_order_relaxed);
  return found;
}

}  // namespace shoal::blob
