// A pool's tasks: after a worker's death each task is still to be done, or done, or reported lost.
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
      {"task.report-lost", make<ReportLost>},
  };
}

}  // namespace shoal::exhaust
