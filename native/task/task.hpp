// Floor 6: a pool's task table: a channel of tasks (application to workers) and one of results (back).
//
// claim() notes the task in the worker's slot before it commits the get, publish() takes the note back after it has committed the result. So for each
// task that a dead worker had claimed, recovery knows whether its result is on the way; if not, it sends kLost in its place.
#pragma once

#include "channel/channel.hpp"
#include "task/journal.hpp"

namespace shoal::task {

constexpr uint64_t kLargest = (1ull << 44) - 1;  // task numbers are 1 to kLargest

// Flags of a result message, beside those of the payload's encoding.
constexpr uint16_t kLast = 0x100;  // nothing more comes for this task
constexpr uint16_t kLost = 0x200;  // the worker died; the payload is a Loss

// What is sent instead of a result. Only the pid if the worker had begun no item of a chunk.
struct Loss {
  int32_t pid;
  uint32_t unused;
  Progress progress;
  char outcomes[sizeof(Journal::outcomes)];
};
constexpr uint32_t kLossWithoutProgress = offsetof(Loss, unused), kLossWithProgress = offsetof(Loss, outcomes);
static_assert(sizeof(Loss) <= channel::kInline, "a report of a loss needs no memory beside the ring's");

arena::Status create(uint32_t& tasks, uint32_t& tasks_generation, uint32_t& results, uint32_t& results_generation);

inline channel::Result submit(uint32_t tasks, const channel::Message& m, sync::Wait& wait) {
  return channel::put(tasks, m, wait);
}
inline channel::Result claim(uint32_t tasks, channel::Taken& out, sync::Wait& wait) {
  return channel::get(tasks, out, wait);
}
channel::Result publish(uint32_t results, const channel::Message& m, sync::Wait& wait);

// Recovery: reports the task that the dead process had claimed. Idempotent, but for a report that is sent twice when the one who recovers is killed:
// receivers ignore tasks that they do not expect.
void report_lost(uint32_t dead_slot);

}  // namespace shoal::task
