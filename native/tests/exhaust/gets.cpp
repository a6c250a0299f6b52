// Getting from a channel, and a joinable queue's accounts.
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
      CHECK(result_of(peer) == (taken == 1 ? 2 : 1));
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
  GetAcross() : Get({.before = 10, .letter = {.words = 1020}}) {}
  void prepare() override {
    Get::prepare();
    for (taken_before = 0; taken_before < 8; ++taken_before) CHECK(get_number(channel, soon()) == taken_before + 1);
  }
};

// --- joinable -----------------------------------------------------------------------------------------------------------

class Joinable : public Get {
 public:
  Joinable(uint32_t before, Letter letter) : Get({before, letter, {.flags = channel::kJoinable}}) {}
  // What the dead had taken counts as done; the rest is done by the survivor; then join returns.
  void check() override {
    CHECK(gets(channel) == taken_before + taken);
    for (uint64_t n = taken_before + taken + 1; n <= how_.before; ++n) CHECK(get_number(channel, soon()) == n && task_done());
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

}  // namespace

std::vector<Entry> get_operations() {
  return {
      {"channel.get", [] { return std::unique_ptr<Scenario>(new Get({})); }},
      {"channel.get.last", [] { return std::unique_ptr<Scenario>(new Get({.before = 1})); }},
      {"channel.get.blob", [] { return std::unique_ptr<Scenario>(new Get({.letter = {.blob = true}})); }},
      {"channel.get.across", make<GetAcross>},
      {"channel.get.asleep", make<GetEmpty, false>},
      {"channel.get.asleep.blob", make<GetEmpty, true>},
      {"channel.get.full", make<GetFull>},
      {"channel.get.bytes", [] { return std::unique_ptr<Scenario>(new Get({.options = {.byte_limit = 4096}})); }},
      {"channel.get.joinable", [] { return std::unique_ptr<Scenario>(new Joinable(2, {})); }},
      {"channel.get.joinable.blob", [] { return std::unique_ptr<Scenario>(new Joinable(2, {.blob = true})); }},
      {"channel.task-done", make<TaskDone>},
  };
}

}  // namespace shoal::exhaust
