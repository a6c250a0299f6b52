// Getting from a channel, waiting for a message without getting it, and a joinable queue's accounts.
#include <sys/mman.h>

#include "channels.hpp"

namespace shoal::exhaust {

namespace {

using channel::Result;

struct How {
  uint32_t before = 2;  // messages in it
  Letter letter = {};
  channel::Options options = {};
};

class Get : public Scenario {
 public:
  explicit Get(How how) : how_(how) {}
  void prepare() override {
    channel = make_channel(how_.options);
    for (uint64_t n = 1; n <= how_.before; ++n) CHECK(put_number(channel, n, how_.letter, soon()) == Result::kDone);
  }
  void operate() override { get_number(channel, {}); }
  void at_death() override { taken = gets(channel) - taken_before; }
  void check() override {
    CHECK(taken <= 1 && gets(channel) == taken_before + taken);
    drain(channel, taken_before + taken + 1, how_.before, how_.letter);
  }
  void finish() override { recovery::let_go(channel); }

 protected:
  How how_;
  uint32_t channel = 0, taken_before = 0, taken = 0;
};

// Nobody recovers before somebody else gets: that one finds the section's holder dead, and repairs.
class GetUnrecovered final : public Get {
 public:
  using Get::Get;
  void recover_victim() override {}
  void check() override {
    CHECK(get_number(channel, soon()) == taken + 1);
    CHECK(put_number(channel, how_.before + 1, how_.letter, soon()) == Result::kDone);
    recover(victim);
    drain(channel, taken + 2, how_.before + 1, how_.letter);
  }
};

// The victim sleeps in an empty channel, a peer behind it; then one message comes.
class GetEmpty final : public Get {
 public:
  explicit GetEmpty(bool blob) : Get({.before = 0, .letter = {.blob = blob}}) {}
  void victim_sleeps() override {
    peer = start_and_wait_until_asleep([&] { return static_cast<int>(get_number(channel, {})); });
    CHECK(put_number(channel, 1, how_.letter, soon()) == Result::kDone);
  }
  void check() override {
    if (peer.pid != 0) {
      if (taken == 1) CHECK(put_number(channel, 2, how_.letter, soon()) == Result::kDone);
      const int got = result_of(peer);
      CHECK(got == 1 || (taken == 1 && got == 2));
      if (taken == 1 && got == 1) {  // the peer had it before: the victim had passed the wake-up on, for want of memory
        drain(channel, 2, 2, how_.letter);
        return;
      }
    }
    drain(channel, 1, 0, how_.letter);
  }

 private:
  Child peer;
};

// A peer sleeps for room.
class GetFull final : public Get {
 public:
  GetFull() : Get({.before = 1, .options = {.maxsize = 1}}) {}
  void prepare() override {
    Get::prepare();
    peer = start_and_wait_until_asleep([&] { return put_number(channel, 2, {}, {}) == Result::kDone ? 10 : 11; });
  }
  void check() override {
    if (taken == 0) CHECK(get_number(channel, soon()) == 1);
    CHECK(result_of(peer) == 10);
    CHECK(get_number(channel, soon()) == 2);
    CHECK(get_number(channel, at_once()) == 0);
  }

 private:
  Child peer;
};

// The victim leaves a segment behind.
class GetAcross final : public Get {
 public:
  // `cold`: enough free segments keep their memory, so this one's is given back.
  explicit GetAcross(bool cold) : Get({.before = 10, .letter = {.words = 1020}}), cold_(cold) {}
  void prepare() override {
    Get::prepare();
    if (cold_) arena::header().kept_segments = 1 << 20;
    for (taken_before = 0; taken_before < 8; ++taken_before) CHECK(get_number(channel, soon()) == taken_before + 1);
  }

 private:
  bool cold_;
};

// --- await --------------------------------------------------------------------------------------------------------------

// Somebody waits, without taking, and may be told to give up.
class GivenUp : public Get {
 public:
  GivenUp() : Get({.before = 0}) {}
  void prepare() override {
    Get::prepare();
    void* shared = mmap(nullptr, sizeof(bool), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(shared != MAP_FAILED);
    given_up = static_cast<bool*>(shared);
  }
  void at_death() override {}
  void finish() override {
    Get::finish();
    munmap(given_up, sizeof(bool));
  }

 protected:
  void give_up() const {
    __atomic_store_n(given_up, true, __ATOMIC_SEQ_CST);
    channel::rouse(channel);
  }
  bool* given_up = nullptr;
};

// The victim waits in an empty channel for a message that it does not take, a peer behind it for one to take; then one comes, and is the peer's, whatever
// has become of the victim. `by_call`: first the victim is told to give up.
class Await final : public GivenUp {
 public:
  explicit Await(bool by_call) : by_call_(by_call) {}
  void operate() override {
    sync::Wait wait;
    const Result r = channel::await(channel, wait, given_up);
    CHECK(r == (by_call_ ? Result::kEmpty : Result::kDone) || r == Result::kInterrupted);
  }
  void victim_sleeps() override {
    peer = start_and_wait_until_asleep([&] { return static_cast<int>(get_number(channel, {})); });
    if (by_call_) {
      give_up();
    } else {
      CHECK(put_number(channel, 1, {}, soon()) == Result::kDone);
    }
  }
  void check() override {
    if (peer.pid != 0) {
      if (by_call_) CHECK(put_number(channel, 1, {}, soon()) == Result::kDone);
      CHECK(result_of(peer) == 1);
    }
    drain(channel, 1, 0);
  }

 private:
  bool by_call_;
  Child peer;
};

// The victim has one peer give up its wait; another one waits for a message, and is not to take that for one.
class Rouse final : public GivenUp {
 public:
  void before_steps() override {
    awaiting = start_and_wait_until_asleep([&] {
      sync::Wait wait;
      return channel::await(channel, wait, given_up) == Result::kEmpty ? 10 : 11;
    });
    getting = start_and_wait_until_asleep([&] { return static_cast<int>(get_number(channel, {})); });
  }
  void operate() override { give_up(); }
  void check() override {
    if (!__atomic_load_n(given_up, __ATOMIC_SEQ_CST)) give_up();  // nothing has happened: somebody else does it
    CHECK(result_of(awaiting) == 10);
    CHECK(put_number(channel, 1, {}, soon()) == Result::kDone);
    CHECK(result_of(getting) == 1);
    drain(channel, 1, 0);
  }

 private:
  Child awaiting, getting;
};

// --- joinable -----------------------------------------------------------------------------------------------------------

class Joinable : public Get {
 public:
  Joinable(uint32_t before, Letter letter) : Get({before, letter, {.flags = channel::kJoinable}}) {}
  // What the dead had taken counts as done; the rest is done by the survivor; then join returns.
  void check() override {
    CHECK(gets(channel) == taken_before + taken);
    for (uint64_t n = taken_before + taken + 1; n <= how_.before; ++n)
      CHECK(get_number(channel, soon()) == n && task_done());
    sync::Wait wait = soon();
    CHECK(channel::join(channel, wait) == Result::kDone);
    CHECK(!task_done());
    CHECK(put_number(channel, 9, how_.letter, soon()) == Result::kDone);
    wait = at_once();
    CHECK(channel::join(channel, wait) != Result::kDone);
    CHECK(get_number(channel, soon()) == 9 && task_done() && !task_done());
    CHECK(channel::join(channel, wait) == Result::kDone);
  }

 protected:
  bool task_done() const {
    sync::Wait wait = soon();
    return channel::task_done(channel, wait);
  }
};

class JoinableUnrecovered final : public Joinable {
 public:
  using Joinable::Joinable;
  void recover_victim() override {}
  void check() override {
    CHECK(get_number(channel, soon()) == taken + 1 && task_done());
    recover(victim);
    taken_before = 1;
    Joinable::check();
  }
};

class TaskDone final : public Joinable {
 public:
  TaskDone() : Joinable(1, {}) {}
  void begin() override { CHECK(get_number(channel, soon()) == 1); }
  void before_steps() override {
    taken_before = 1;
    peer = start_and_wait_until_asleep([&] {
      sync::Wait wait;
      return channel::join(channel, wait) == Result::kDone ? 10 : 11;
    });
  }
  void operate() override { task_done(); }
  void check() override {
    CHECK(result_of(peer) == 10);
    Joinable::check();
  }

 private:
  Child peer;
};

// Nothing has been taken when the victim reports.
class TaskDoneInAdvance final : public Joinable {
 public:
  TaskDoneInAdvance() : Joinable(1, {}) {}
  void operate() override { task_done(); }
  void check() override {
    sync::Wait wait = at_once();
    if (channel::join(channel, wait) != Result::kDone) CHECK(task_done());  // it had not come to that
    CHECK(get_number(channel, soon()) == 1);
    taken_before = 1;
    Joinable::check();
  }
};

// What the victim reports has been reported by another: its report does not count, and the two are set off against each other.
class TaskDoneTooMany final : public Joinable {
 public:
  TaskDoneTooMany() : Joinable(1, {}) {}
  void begin() override { CHECK(get_number(channel, soon()) == 1); }
  void before_steps() override {
    taken_before = 1;
    CHECK(task_done());
  }
  void operate() override { CHECK(!task_done()); }
};

// Of two messages one was reported in advance, by who takes one in the end: that one, though it might have been the one that the victim took.
class GetReported final : public Joinable {
 public:
  GetReported() : Joinable(2, {}) {}
  void prepare() override {
    Joinable::prepare();
    CHECK(task_done());
  }
  void check() override {
    sync::Wait wait = at_once();
    CHECK(channel::join(channel, wait) != Result::kDone);
    CHECK(get_number(channel, soon()) == taken + 1);
    taken_before = 1;
    Joinable::check();
  }
};

}  // namespace

std::vector<Entry> get_operations() {
  return {
      {"channel.get", [] { return std::unique_ptr<Scenario>(new Get({})); }},
      {"channel.get.last", [] { return std::unique_ptr<Scenario>(new Get({.before = 1})); }},
      {"channel.get.blob", [] { return std::unique_ptr<Scenario>(new Get({.letter = {.blob = true}})); }},
      {"channel.get.across", make<GetAcross, false>},
      {"channel.get.across.cold", make<GetAcross, true>},
      {"channel.get.asleep", make<GetEmpty, false>},
      {"channel.get.asleep.blob", make<GetEmpty, true>},
      {"channel.get.full", make<GetFull>},
      {"channel.get.bytes", [] { return std::unique_ptr<Scenario>(new Get({.options = {.byte_limit = 4096}})); }},
      {"channel.get.joinable", [] { return std::unique_ptr<Scenario>(new Joinable(2, {})); }},
      {"channel.get.joinable.blob", [] { return std::unique_ptr<Scenario>(new Joinable(2, {.blob = true})); }},
      {"channel.get.unrecovered", [] { return std::unique_ptr<Scenario>(new GetUnrecovered(How{})); }},
      {"channel.get.blob.unrecovered",
       [] { return std::unique_ptr<Scenario>(new GetUnrecovered(How{.letter = {.blob = true}})); }},
      {"channel.get.joinable.unrecovered",
       [] { return std::unique_ptr<Scenario>(new JoinableUnrecovered(3, {.blob = true})); }},
      {"channel.await.asleep", make<Await, false>},
      {"channel.await.given-up", make<Await, true>},
      {"channel.rouse", make<Rouse>},
      {"channel.get.joinable.reported", make<GetReported>},
      {"channel.task-done", make<TaskDone>},
      {"channel.task-done.in-advance", make<TaskDoneInAdvance>},
      {"channel.task-done.too-many", make<TaskDoneTooMany>},
  };
}

}  // namespace shoal::exhaust
