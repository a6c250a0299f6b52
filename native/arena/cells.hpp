// Floor 1: finding a free cell of a table. The owner word decides (the caller's compare-and-swap); everything here is a hint, except the
// growing of a table, which gives memory to cells before anyone can see them.
#pragma once

#include <algorithm>

#include "arena/arena.hpp"

namespace shoal::arena {

// What growing a table by one cell costs: up to three ranges of the file.
struct Range {
  uint64_t at, stride;
};

struct TableShape {
  uint32_t table;
  uint32_t capacity;
  uint32_t first_step;  // cells given memory at the first growth
  Range ranges[3];      // stride 0: unused
};

// Gives memory to more cells (a quarter more, at least first_step). kNoMemory past the quota or the capacity.
inline Status grow(const TableShape& shape, uint32_t seen) {
  std::atomic<uint32_t>& grown = header().grown[shape.table];
  if (grown.load(std::memory_order_acquire) > seen) return Status::kOk;  // somebody else did
  uint32_t step = std::max(shape.first_step, seen / 4);
  step = std::min(step, shape.capacity - seen);
  if (step == 0) {
    errno = ENOSPC;
    Failure& f = last_failure();
    f = {0, bytes_in_use(), header().quota, ENOSPC};
    return Status::kNoMemory;
  }
  for (const Range& r : shape.ranges) {
    if (r.stride == 0) continue;
    if (Status s = commit(r.at + seen * r.stride, step * r.stride); s != Status::kOk) return s;
  }
  uint32_t expected = seen;  // two who grow at once commit the same range, which is harmless
  grown.compare_exchange_strong(expected, seen + step, std::memory_order_acq_rel);
  return Status::kOk;
}

inline bool nothing_to_reclaim() { return false; }

// Calls try_claim(index) on free-looking cells until one is claimed. `hint` is private to the thread. Before the table grows, reclaim() may free cells;
// it says whether there is any to be found now.
template <class LooksFree, class TryClaim, class Reclaim = bool (*)()>
Status claim_cell(const TableShape& shape, uint32_t& hint, LooksFree looks_free, TryClaim try_claim, uint32_t& index,
                  Reclaim reclaim = nothing_to_reclaim) {
  for (;;) {
    const uint32_t end = grown(shape.table);
    for (uint32_t n = 0, i = hint < end ? hint : 0; n < end; ++n, i = i + 1 < end ? i + 1 : 0) {
      if (looks_free(i) && try_claim(i)) {
        index = i;
        hint = i;
        return Status::kOk;
      }
    }
    if (reclaim()) continue;
    hint = end;
    if (Status s = grow(shape, end); s != Status::kOk) return s;
  }
}

}  // namespace shoal::arena
