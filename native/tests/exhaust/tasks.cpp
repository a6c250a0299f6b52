// A pool's tasks: after a worker's death each task is still to be done, or done, or reported lost.
#include <algorithm>

#include "channels.hpp"
#include "recovery/recovery.hpp"
#include "task/task.hpp"

namespace shoal::exhaust {

namespace {

using channel::Result;

constexpr uint64_t kTask = 5;

class TaskScenario : public Scenario {
 public:
  explicit TaskScenario(bool blob) : letter_{.blob = blob} {}
  void prepare() override {
    uint32_t generation = 0, other = 0;
    CHECK(task::create(tasks, generation, results, other) == arena::Status::kOk);
    CHECK(put_number(tasks, kTask, letter_, soon()) == Result::kDone);
  }
  void check() override {
    if (gets(tasks) == 0) {  // nobody has claimed it: the next worker does
      CHECK(puts(results) == 0);
      drain_task();
      return;
    }
    bool last = false;
    for (bool first = true; !channel::is_empty(channel::at(results)->ring); first = false) {
      char buffer[channel::kInline];
      channel::Taken out;
      out.buffer = buffer;
      sync::Wait wait = soon();
      CHECK(channel::get(results, out, wait) == Result::kDone && out.tag == kTask);
      last = (out.flags & task::kLast) != 0;
      int32_t who = 0;
      if ((out.flags & task::kLost) != 0) {
        std::memcpy(&who, buffer, sizeof who);
        CHECK(out.bytes == sizeof who && who == worker() && (first || published));
      } else {
        CHECK(first && published);
        if (out.blob.there()) recovery::let_go(out.blob, process::mine());
      }
    }
    CHECK(last);
    CHECK(put_number(tasks, kTask, letter_, soon()) == Result::kDone);
    drain_task();
  }
  void finish() override {
    recovery::let_go(tasks);
    recovery::let_go(results);
  }

 protected:
  virtual pid_t worker() const { return victim.pid; }
  void claim() const { CHECK(get_number(tasks, soon()) == kTask); }
  void publish() const {
    channel::Message m;
    const uint64_t result = 1;
    m.flags = task::kLast;
    m.tag = kTask;
    if (letter_.blob) {
      CHECK(blob::allocate(kBlobPayload, 0, m.blob) == arena::Status::kOk);
      m.blob_bytes = kBlobPayload;
    } else {
      m.data = &result;
      m.bytes = sizeof result;
    }
    sync::Wait wait;
    task::publish(results, m, wait);
  }
  void drain_task() const {
    claim();
    CHECK(get_number(tasks, at_once()) == 0);
    publish();
    channel::Taken out;
    char buffer[channel::kInline];
    out.buffer = buffer;
    sync::Wait wait = soon();
    CHECK(channel::get(results, out, wait) == Result::kDone && out.flags == task::kLast);
    if (out.blob.there()) recovery::let_go(out.blob, process::mine());
    CHECK(process::slot(process::mine()).running.load() == 0);
  }
  Letter letter_;
  uint32_t tasks = 0, results = 0;
  bool published = false;
};

class Claim final : public TaskScenario {
 public:
  using TaskScenario::TaskScenario;
  void operate() override { get_number(tasks, soon()); }
};

class Publish final : public TaskScenario {
 public:
  using TaskScenario::TaskScenario;
  void begin() override { claim(); }
  void operate() override { publish(); }
  void at_death() override { published = puts(results) == 1; }
};

// The application sleeps for results while its worker is killed: it must be called, whatever happened.
class PublishToSleeper final : public TaskScenario {
 public:
  using TaskScenario::TaskScenario;
  void begin() override { claim(); }
  void before_steps() override {
    peer = start_and_wait_until_asleep([&] {
      char buffer[channel::kInline];
      channel::Taken out;
      out.buffer = buffer;
      Result r = Result::kEmpty;
      for (sync::Wait wait; r == Result::kEmpty || r == Result::kInterrupted;) r = channel::get(results, out, wait);
      if (r != Result::kDone || out.tag != kTask) return 12;
      if (out.blob.there()) recovery::let_go(out.blob, process::mine());
      return (out.flags & task::kLost) != 0 ? 11 : 10;
    });
  }
  void operate() override { publish(); }
  void at_death() override { published = puts(results) == 1; }
  void check() override {
    CHECK(result_of(peer) == (published ? 10 : 11));
    if (!channel::is_empty(channel::at(results)->ring)) {  // published, and not yet noted: reported lost as well
      char buffer[channel::kInline];
      channel::Taken out;
      out.buffer = buffer;
      sync::Wait wait = soon();
      CHECK(published && channel::get(results, out, wait) == Result::kDone && (out.flags & task::kLost) != 0);
    }
    CHECK(put_number(tasks, kTask, letter_, soon()) == Result::kDone);
    drain_task();
  }

 private:
  Child peer;
};

// Killed among the items of a chunk, or between two steps of it: everything that was done is known, but for one item at most.
class Items : public TaskScenario {
 public:
  Items() : TaskScenario(false) {}
  void begin() override { claim(); }
  void operate() override { run(); }
  void check() override {
    uint64_t published = 0, reports = 0;
    while (!channel::is_empty(channel::at(results)->ring)) {
      char buffer[channel::kInline];
      channel::Taken out;
      out.buffer = buffer;
      sync::Wait wait = soon();
      CHECK(channel::get(results, out, wait) == Result::kDone && out.tag == kTask);
      if ((out.flags & task::kLost) == 0) {
        CHECK(reports == 0 && out.bytes == sizeof published);
        std::memcpy(&published, buffer, sizeof published);
        continue;
      }
      task::Loss loss{};
      std::memcpy(&loss, buffer, out.bytes);
      ++reports;
      CHECK(loss.pid == worker() && (out.bytes == task::kLossWithoutProgress || out.bytes >= task::kLossWithProgress));
      const uint64_t known = out.bytes > task::kLossWithProgress ? out.bytes - task::kLossWithProgress : 0;
      const auto [begun, first] = loss.progress;
      CHECK(first <= published && first + known <= begun);
      CHECK(begun <= std::max(published, first + known) + 1);  // at most one was running
      for (uint64_t i = 0; i < known; ++i) CHECK(loss.outcomes[i] == text(first + i));
    }
    CHECK(reports == 1 || (reports == 2 && twice_));
    blob::Name name;  // grows the table as the victim was about to
    CHECK(blob::allocate(sizeof(task::Journal), 0, name) == arena::Status::kOk &&
          blob::free_owned(name, process::mine()));
    CHECK(put_number(tasks, kTask, letter_, soon()) == Result::kDone);
    drain_task();
  }

 protected:
  static char text(uint64_t item) { return static_cast<char>('a' + item); }
  // What a worker does with five items, published in two steps; an outcome is one letter.
  void run() const {
    task::Journal* journal = task::own_journal();
    CHECK(journal != nullptr);
    for (uint64_t i = 0; i < 5; ++i) {
      if (i == 0 || i == 3) task::begin(*journal, kTask, i);
      task::note_begun(*journal, i + 1);
      char* at = task::room(*journal);
      *at = text(i);
      task::note_outcome(*journal, at + 1);
      if (i != 2) continue;
      channel::Message m;
      const uint64_t count = i + 1;
      m.tag = kTask;
      m.data = &count;
      m.bytes = sizeof count;
      sync::Wait wait;
      task::publish(results, m, wait);
    }
  }
  bool twice_ = false;
};

// … and whoever reports that is killed, too.
class ReportItems final : public Items {
 public:
  void prepare() override {
    Items::prepare();
    dead = killed_after([&] {
      claim();
      run();
    });
    twice_ = true;
  }
  void begin() override {}
  void operate() override { recover(dead); }
  void recover_victim() override {
    recovery::recover(dead.slot);
    recover(victim);
  }

 private:
  pid_t worker() const override { return dead.pid; }
  Child dead;
};

// A worker that was killed with a task is being recovered when the recoverer is killed.
class ReportLost final : public TaskScenario {
 public:
  ReportLost() : TaskScenario(false) {}
  void prepare() override {
    TaskScenario::prepare();
    dead = killed_after([&] { claim(); });
  }
  void operate() override { recover(dead); }
  void recover_victim() override {
    recovery::recover(dead.slot);
    recover(victim);
    published = true;  // a second report may follow a first
  }

 private:
  pid_t worker() const override { return dead.pid; }
  Child dead;
};

}  // namespace

std::vector<Entry> task_operations() {
  return {
      {"task.claim", make<Claim, false>},
      {"task.claim.blob", make<Claim, true>},
      {"task.publish", make<Publish, false>},
      {"task.publish.blob", make<Publish, true>},
      {"task.publish.sleeper", make<PublishToSleeper, false>},
      {"task.publish.sleeper.blob", make<PublishToSleeper, true>},
      {"task.items", make<Items>},
      {"task.report-lost", make<ReportLost>},
      {"task.report-lost.items", make<ReportItems>},
  };
}

}  // namespace shoal::exhaust
