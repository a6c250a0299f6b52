// Floor 6: what a worker has done of a chunk of items and not yet published, where others find it after its death.
//
// A worker runs many short items between two messages. Each outcome that can be written here is, before the next item begins: storing `used` is the commit.
// So a worker that is killed loses the item that it ran, and no other. Recovery sends what is here along with the report of the loss.
//
// It is a blob that the worker owns and its slot names; without one (no memory) nothing is noted, and workers publish more often.
#pragma once

#include <cstddef>

#include "blob/blob.hpp"

namespace shoal::task {

struct Journal {
  std::atomic<uint64_t> task;   // whose items these are; 0: none
  std::atomic<uint64_t> begun;  // items of the task that have been begun
  std::atomic<uint64_t> first;  // number of the item whose outcome comes first
  std::atomic<uint64_t> used;   // bytes of outcomes
  char outcomes[8000];          // so that a report of a loss fits into a message
};

// What follows the pid in a report of a loss, if the dead worker had begun an item of the task; then the outcomes.
struct Progress {
  uint64_t begun, first;
};

// This process's own; nullptr: no memory.
Journal* own_journal();

// The items from `first` on come next.
void begin(Journal& journal, uint64_t task, uint64_t first);
inline void note_begun(Journal& journal, uint64_t items) { journal.begun.store(items, std::memory_order_release); }
inline char* room(Journal& journal) { return journal.outcomes + journal.used.load(std::memory_order_relaxed); }
inline char* end_of(Journal& journal) { return journal.outcomes + sizeof journal.outcomes; }
inline bool is_half_full(const Journal& journal) {
  return journal.used.load(std::memory_order_relaxed) > sizeof journal.outcomes / 2;
}
inline void note_outcome(Journal& journal, const char* end) {
  journal.used.store(static_cast<uint64_t>(end - journal.outcomes), std::memory_order_release);
}

// Recovery: the journal that a dead process left, if it is about that task; nullptr: nothing was begun.
const Journal* journal_of(uint32_t dead_slot, uint64_t task);

}  // namespace shoal::task
