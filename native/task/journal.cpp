#include "task/journal.hpp"

#include "process/slots.hpp"

namespace shoal::task {

namespace {

process::Token owner_ = 0;  // a forked child has none yet
Journal* own_ = nullptr;

}  // namespace

Journal* own_journal() {
  const process::Token me = process::token_of(process::mine());
  if (owner_ == me && own_ != nullptr) return own_;
  own_ = nullptr;
  blob::Name name;
  if (blob::allocate(sizeof(Journal), 0, name) != arena::Status::kOk) return nullptr;
  blob::Head* head = blob::head(name);
  if (head == nullptr) {
    blob::free_owned(name, process::mine());
    return nullptr;
  }
  auto* journal = reinterpret_cast<Journal*>(blob::payload(head));
  journal->task = 0;
  journal->begun = journal->first = journal->used = 0;
  process::slot(process::mine()).journal.store(name.raw);
  owner_ = me;
  return own_ = journal;
}

// In an order that is never read as more than happened: with the task of another, or with nothing used, the rest does not count.
void begin(Journal& journal, uint64_t task, uint64_t first) {
  journal.used.store(0, std::memory_order_release);
  if (journal.task.load(std::memory_order_relaxed) != task) {
    journal.task.store(0, std::memory_order_release);
    journal.begun.store(0, std::memory_order_release);
  }
  journal.first.store(first, std::memory_order_release);
  journal.task.store(task, std::memory_order_release);
}

const Journal* journal_of(uint32_t dead_slot, uint64_t task) {
  const blob::Name name{process::slot(dead_slot).journal.load()};
  if (!name.there()) return nullptr;
  const blob::Word w = blob::load(name);
  if (w.state() != blob::State::kOwned || w.owner() != dead_slot || w.generation() != name.generation()) return nullptr;
  const blob::Head* head = blob::head(name);
  if (head == nullptr) return nullptr;
  const auto* journal = reinterpret_cast<const Journal*>(blob::payload(const_cast<blob::Head*>(head)));
  return journal->task.load() == task && journal->begun.load() != 0 ? journal : nullptr;
}

}  // namespace shoal::task
