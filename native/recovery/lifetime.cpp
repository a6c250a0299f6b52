#include "recovery/lifetime.hpp"

#include <algorithm>
#include <vector>

#include "recovery/kinds.hpp"
#include "recovery/recovery.hpp"

namespace shoal::recovery {

namespace {

struct Candidate {
  uint32_t index;
  object::Word seen;
  bool held, reachable;
};

// What is retired is counted in objects, and large memory as so many more: nobody bothers to look for a few.
constexpr uint32_t kSweepFrom = 64;
constexpr uint64_t kPagesOfOne = 16;
std::atomic<uint32_t> left_last_time_{0};

uint32_t weight_of(uint32_t index) {
  return 1 + (object::load(index).kind() == object::Kind::kMemory ? memory::weight(index) : 0);
}
uint32_t weight_of(blob::Name name) { return 1 + static_cast<uint32_t>(blob::load(name).backed() / kPagesOfOne); }

void sweep_if_worth_it() {
  if (arena::header().limbo.load(std::memory_order_relaxed) > kSweepFrom + 2 * left_last_time_.load() && try_enter()) {
    sweep_retired();
    leave();
  }
}

std::vector<Candidate> retired_objects() {
  std::vector<Candidate> found;
  const uint32_t end = arena::grown(arena::kObjectTable);
  for (uint32_t i = 0; i < end; ++i)
    if (const object::Word w = object::load(i); w.state() == object::State::kRetired)
      found.push_back({i, w, false, false});
  return found;  // in ascending order of index
}

void mark_listed(std::vector<Candidate>& candidates) {
  blob::for_each([&](blob::Name name, blob::Word w) {
    if (!w.listed()) return;
    blob::Head* h = blob::head(name);
    if (h == nullptr) {  // no address space to look: assume the worst
      for (Candidate& c : candidates) c.reachable = true;
      return;
    }
    const blob::Mention* list = blob::mentions(h);
    for (uint32_t k = 0; k < h->mentions; ++k) {
      auto c = std::lower_bound(candidates.begin(), candidates.end(), list[k].object,
                                [](const Candidate& a, uint32_t index) { return a.index < index; });
      if (c != candidates.end() && c->index == list[k].object) c->reachable = true;
    }
  });
}

struct Window {
  uint64_t low, high;
};

std::vector<Window> fork_windows() {
  std::vector<Window> windows;
  for (uint32_t i = 0; i < arena::kSlots; ++i) {
    process::Slot& s = process::slot(i);
    if (process::state_of(s.word.load()) == process::State::kFree || (s.flags.load() & process::kForked) == 0) continue;
    windows.push_back({s.window_low.load(), s.window_high.load()});
  }
  return windows;
}

bool inherited(const std::vector<Window>& windows, uint64_t birth, uint64_t retired) {
  return std::any_of(windows.begin(), windows.end(),
                     [&](const Window& w) { return birth < w.high && retired >= w.low; });
}

std::vector<blob::Name> blobs_in_limbo() {
  std::vector<blob::Name> found;
  blob::for_each([&](blob::Name name, blob::Word w) {
    if (w.state() == blob::State::kLimbo) found.push_back(name);
  });
  return found;
}

uint32_t free_blobs(const std::vector<blob::Name>& limbo, const std::vector<Window>& windows) {
  uint32_t left = 0;
  for (const blob::Name name : limbo) {
    const blob::Head* h = blob::head(name);
    if (h == nullptr || inherited(windows, h->birth, h->retired) || !blob::free_limbo(name)) left += weight_of(name);
  }
  return left;
}

}  // namespace

void destroy_and_free(uint32_t index) {
  const uint64_t unreachable = arena::unreachable();
  destroy_kind(object::load(index).kind(), index);
  if (arena::unreachable() == unreachable) object::end_destroy(index);
}

void let_go(uint32_t index) {
  const uint32_t weight = weight_of(index);  // looked at while it is held
  if (object::release(index)) {
    destroy_and_free(index);
    return;
  }
  if (weight != 1 && object::load(index).state() == object::State::kRetired)
    arena::header().limbo.fetch_add(weight - 1, std::memory_order_relaxed);
  sweep_if_worth_it();
}

void let_go(blob::Name name, uint32_t owner) {
  const blob::Head* h = blob::head(name);
  if (h == nullptr || h->birth == arena::header().fork_sequence.load()) {
    blob::free_owned(name, owner);
  } else if (blob::retire(name, owner)) {
    arena::header().limbo.fetch_add(weight_of(name), std::memory_order_relaxed);
    sweep_if_worth_it();
  }
}

bool sweep_now() {
  sync::Wait wait;
  wait.deadline = os::now() + kPatience;
  if (!enter(wait)) return false;
  sweep_retired();
  leave();
  return true;
}

void sweep_retired() {
  // The order matters: first the word, then the bits, then windows and lists, then the compare-and-swap. Who sets a bit after the look at the bits finds the
  // object retired and changes the word's version; a list is made only by somebody whose bit is set. So whatever moved meanwhile, the swap fails.
  std::vector<Candidate> candidates = retired_objects();
  for (Candidate& c : candidates) c.held = !object::held_by_nobody(c.index);
  // What is in limbo, too, before the windows: a blob that went there since may be inherited by a child whose window has opened since.
  const std::vector<blob::Name> limbo = blobs_in_limbo();
  const std::vector<Window> windows = fork_windows();
  for (Candidate& c : candidates) {
    const object::Cell* cell = object::cell(c.index);
    if (cell == nullptr || inherited(windows, cell->birth.load(), cell->retired.load())) c.reachable = true;
  }
  mark_listed(candidates);
  uint32_t left = free_blobs(limbo, windows);
  for (const Candidate& c : candidates) {
    if (c.held) {
      object::revive(c.index);
    } else if (c.reachable) {
      left += weight_of(c.index);
    } else if (object::begin_destroy(c.index, c.seen)) {
      destroy_and_free(c.index);
    }
  }
  left_last_time_ = left;
  arena::header().limbo.store(left, std::memory_order_relaxed);
}

}  // namespace shoal::recovery
