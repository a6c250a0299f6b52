#include "task/task.hpp"

#include <algorithm>
#include <cstring>

namespace shoal::task {

arena::Status create(uint32_t& tasks, uint32_t& tasks_generation, uint32_t& results, uint32_t& results_generation) {
  arena::Status status = channel::create({}, results, results_generation);
  if (status != arena::Status::kOk) return status;
  status = channel::create({.flags = channel::kTasks, .partner = results}, tasks, tasks_generation);
  if (status != arena::Status::kOk && object::release(results)) object::end_destroy(results);  // it has no message yet
  return status;
}

channel::Result publish(uint32_t results, const channel::Message& m, sync::Wait& wait) {
  const channel::Result r = channel::put(results, m, wait);
  if (r == channel::Result::kDone && (m.flags & kLast) != 0)
    process::slot(process::mine()).running.store(0, std::memory_order_release);
  return r;
}

void report_lost(uint32_t dead_slot) {
  process::Slot& s = process::slot(dead_slot);
  const uint64_t running = s.running.load();
  if (running == 0) return;
  const auto table = static_cast<uint32_t>(running & 0xfffff) - 1;
  const object::Word w = object::load(table);
  const uint32_t results = w.kind() == object::Kind::kTaskTable ? channel::at(table)->partner : 0;
  if (w.kind() == object::Kind::kTaskTable && object::load(results).kind() == object::Kind::kChannel) {
    Loss loss{};
    loss.pid = s.pid.load();
    sync::Wait forever;
    channel::Message m;
    m.data = &loss;
    m.bytes = kLossWithoutProgress;
    if (const Journal* journal = journal_of(dead_slot, running >> 20)) {
      const uint64_t used = std::min<uint64_t>(journal->used.load(), sizeof loss.outcomes);
      loss.progress = {journal->begun.load(), journal->first.load()};
      std::memcpy(loss.outcomes, journal->outcomes, used);
      m.bytes = kLossWithProgress + static_cast<uint32_t>(used);
    }
    m.flags = kLast | kLost;
    m.tag = running >> 20;
    channel::put(results, m, forever);
  }
  s.running.store(0);
}

}  // namespace shoal::task
