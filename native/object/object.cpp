#include "object/object.hpp"

#include <cstring>

namespace shoal::object {

namespace {

constexpr arena::TableShape kShape = {
    arena::kObjectTable,
    arena::kObjects,
    256,
    {{arena::kObjectWordsAt, 8}, {arena::kHoldersAt, arena::kHolderBytes}, {arena::kObjectsAt, arena::kObjectBytes}}};
thread_local uint32_t hint_ = 0;
constexpr uint32_t kHolderWords = arena::kSlots / 64;
constexpr auto kNoKind = static_cast<Kind>(0);

void set_bit(uint32_t index, uint32_t slot) { holders(index)[slot / 64].fetch_or(1ull << slot % 64); }
void clear_bit(uint32_t index, uint32_t slot) { holders(index)[slot / 64].fetch_and(~(1ull << slot % 64)); }

}  // namespace

void revive(uint32_t index) {
  Word w = load(index);
  while (w.state() == State::kRetired) {
    const Word live = w.with(State::kLive).with_version(w.version() + 1);
    if (word(index).compare_exchange_strong(w.raw, live.raw)) return;
  }
}

Cell* cell(uint32_t index) {
  return reinterpret_cast<Cell*>(arena::cell(arena::kObjectsAt + index * arena::kObjectBytes, arena::kObjectBytes));
}

std::atomic<uint64_t>* holders(uint32_t index) {
  return reinterpret_cast<std::atomic<uint64_t>*>(
      arena::cell(arena::kHoldersAt + index * arena::kHolderBytes, arena::kHolderBytes));
}

arena::Status claim(Kind kind, uint32_t& index) {
  const uint32_t me = process::mine();
  arena::Status status = arena::claim_cell(
      kShape, hint_, [](uint32_t i) { return load(i).state() == State::kFree; },
      [&](uint32_t i) {
        Word w = load(i);
        if (w.state() != State::kFree) return false;
        return word(i).compare_exchange_strong(w.raw, Word::make(State::kClaimed, kNoKind, me, w.generation()).raw);
      },
      index);
  if (status != arena::Status::kOk) return status;
  Cell* c = cell(index);
  if (c == nullptr || holders(index) == nullptr) {
    end_destroy(index);
    return arena::Status::kSystem;
  }
  std::memset(c->body, 0, sizeof c->body);
  c->retired.store(0, std::memory_order_relaxed);
  c->birth.store(arena::header().fork_sequence.load(), std::memory_order_relaxed);
  set_bit(index, me);
  // Only now does it bear its kind: whoever recovers a claimed cell may believe what its body says.
  word(index).store(Word::make(State::kClaimed, kind, me, load(index).generation()).raw, std::memory_order_release);
  return status;
}

uint32_t publish(uint32_t index) {
  const Word w = load(index).with(State::kLive).with_owner(0);
  word(index).store(w.raw, std::memory_order_release);
  return w.generation();
}

bool adopt(uint32_t index, uint32_t generation, Kind kind) {
  if (index >= arena::grown(arena::kObjectTable) || cell(index) == nullptr || holders(index) == nullptr) return false;
  const uint32_t me = process::mine();
  const bool had = (holders(index)[me / 64].load() >> me % 64 & 1) != 0;
  if (!had) set_bit(index, me);  // before looking: from here on a freeing either sees the bit or has won already
  revive(index);
  const Word w = load(index);
  if (w.state() == State::kLive && w.generation() == generation && w.kind() == kind) return true;
  if (!had) {
    clear_bit(index, me);
    retire_if_unheld(index);
  }
  return false;
}

void hold(uint32_t index) {
  set_bit(index, process::mine());
  revive(index);
}

void note_listed(uint32_t index) {
  Word w = load(index);
  while (!w.listed() && !word(index).compare_exchange_weak(w.raw, w.with_listed().raw)) {
  }
}

bool held_by_nobody(uint32_t index) {
  std::atomic<uint64_t>* words = holders(index);
  if (words == nullptr) return false;  // no address space to look: assume the worst
  for (uint32_t i = 0; i < kHolderWords; ++i)
    if (words[i].load() != 0) return false;
  return true;
}

bool may_be_held_by(uint32_t index, uint32_t slot) {
  std::atomic<uint64_t>* words = holders(index);
  const Cell* c = cell(index);
  if (words == nullptr || c == nullptr || (words[slot / 64].load() >> slot % 64 & 1) != 0) return true;
  const process::Slot& s = process::slot(slot);
  return (s.flags.load() & process::kForked) != 0 && c->birth.load() < s.window_high.load();
}

void retire_if_unheld(uint32_t index) {
  Word w = load(index);
  while (w.state() == State::kLive && held_by_nobody(index) && cell(index) != nullptr) {
    // Never lowered: somebody else may have retired it again, after a later fork.
    std::atomic<uint64_t>& retired = cell(index)->retired;
    const uint64_t now = arena::header().fork_sequence.load();
    for (uint64_t before = retired.load(); before < now && !retired.compare_exchange_weak(before, now);) {
    }
    if (word(index).compare_exchange_strong(w.raw, w.with(State::kRetired).raw)) {
      arena::header().limbo.fetch_add(1, std::memory_order_relaxed);
      return;
    }
  }
}

bool release(uint32_t index) {
  const uint32_t me = process::mine();
  clear_bit(index, me);
  Word w = load(index);
  // Nobody forked since it was made and no message ever mentioned it: nobody else can know it.
  if (w.state() == State::kLive && !w.listed() && held_by_nobody(index) &&
      cell(index)->birth.load() == arena::header().fork_sequence.load()) {
    if (word(index).compare_exchange_strong(w.raw, w.with(State::kDestroying).with_owner(me).raw)) return true;
  }
  retire_if_unheld(index);
  return false;
}

void release_for(uint32_t index, uint32_t slot) {
  const uint64_t bit = 1ull << slot % 64;
  std::atomic<uint64_t>* words = holders(index);
  if (words != nullptr && (words[slot / 64].load(std::memory_order_relaxed) & bit) != 0) clear_bit(index, slot);
}

bool begin_destroy(uint32_t index, Word seen) {
  return word(index).compare_exchange_strong(seen.raw, seen.with(State::kDestroying).with_owner(process::mine()).raw);
}

void end_destroy(uint32_t index) {
  const Word w = load(index);
  word(index).store(Word::make(State::kFree, kNoKind, 0, w.generation() + 1).raw, std::memory_order_release);
  hint_ = index;
}

}  // namespace shoal::object
