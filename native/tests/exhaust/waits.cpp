// Semaphore, Event, Condition, Barrier.
#include "held.hpp"
#include "sync/barrier.hpp"
#include "sync/condition.hpp"
#include "sync/event.hpp"

namespace shoal::exhaust {

namespace {

using sync::Obtained;

class SemaphoreScenario : public Scenario {
 public:
  SemaphoreScenario(uint32_t value, uint32_t maximum) : value_(value), maximum_(maximum) {}
  void prepare() override { semaphore = make_semaphore(value_, maximum_); }
  // Whatever the victim had taken with a permit is back.
  void check() override {
    CHECK(sync::value_of(body()) == value_);
    for (uint32_t i = 0; i < value_; ++i) {
      sync::Wait wait = soon();
      CHECK(sync::acquire(body(), semaphore, wait) == Obtained::kYes);
    }
    CHECK(!sync::try_acquire(body()));
    for (uint32_t i = 0; i < value_; ++i) CHECK(sync::release(body()));
  }
  void finish() override { recovery::let_go(semaphore); }

 protected:
  sync::SemaphoreBody& body() const { return *object::body<sync::SemaphoreBody>(semaphore); }
  uint32_t take() const {
    uint32_t permit = 0;
    sync::Wait wait;
    CHECK(sync::acquire_permit(body(), semaphore, wait, permit) == Obtained::kYes);
    return permit;
  }
  int take_and_give() const { return sync::release_permit(body(), take()) ? 10 : 11; }

  uint32_t value_, maximum_;
  uint32_t semaphore = 0;
};

class Take final : public SemaphoreScenario {
 public:
  Take() : SemaphoreScenario(2, 2) {}
  void operate() override { take(); }
};

// The survivor has the only permit, the victim sleeps for it, a peer behind the victim.
class TakeAsleep final : public SemaphoreScenario {
 public:
  TakeAsleep() : SemaphoreScenario(1, 1) {}
  void prepare() override {
    SemaphoreScenario::prepare();
    mine = take();
  }
  void operate() override { take(); }
  void victim_sleeps() override {
    peer = start_and_wait_until_asleep([&] { return take_and_give(); });
    CHECK(sync::release_permit(body(), mine));
    given = true;
  }
  void check() override {
    if (!given) CHECK(sync::release_permit(body(), mine));
    if (peer.pid != 0) CHECK(result_of(peer) == 10);
    SemaphoreScenario::check();
  }

 private:
  uint32_t mine = 0;
  Child peer;
  bool given = false;
};

class Give final : public SemaphoreScenario {
 public:
  explicit Give(bool sleeper) : SemaphoreScenario(1, 1), sleeper_(sleeper) {}
  void begin() override { permit = take(); }
  void before_steps() override {
    if (sleeper_) peer = start_and_wait_until_asleep([&] { return take_and_give(); });
  }
  void operate() override { sync::release_permit(body(), permit); }
  void check() override {
    if (sleeper_) CHECK(result_of(peer) == 10);
    SemaphoreScenario::check();
  }

 private:
  bool sleeper_;
  uint32_t permit = 0;
  Child peer;
};

// Two give and take at once: the last operation in the word is another's, which the victim has to help.
class TakeAfterPeer final : public SemaphoreScenario {
 public:
  TakeAfterPeer() : SemaphoreScenario(3, 3) {}
  void before_steps() override { mine = take(); }
  void operate() override {
    const uint32_t permit = take();
    take();
    sync::release_permit(body(), permit);
  }
  void check() override {
    CHECK(sync::value_of(body()) == 2);
    CHECK(sync::release_permit(body(), mine));
    SemaphoreScenario::check();
  }

 private:
  uint32_t mine = 0;
};

// Bare tokens: what the dead has given stays given, what it has taken stays taken.
class GiveBare final : public SemaphoreScenario {
 public:
  GiveBare() : SemaphoreScenario(0, sync::kSemaphoreMost) {}
  void before_steps() override {
    peer = start_and_wait_until_asleep([&] {
      sync::Wait wait;
      return sync::acquire(body(), semaphore, wait) == Obtained::kYes ? 10 : 11;
    });
  }
  void operate() override { sync::release(body()); }
  void at_death() override { given = (body().word.load() >> 46) != 0; }  // operations are counted in it
  void check() override {
    if (!given) CHECK(sync::release(body()));
    CHECK(result_of(peer) == 10);
    SemaphoreScenario::check();
  }

 private:
  Child peer;
  bool given = false;
};

// --- Event --------------------------------------------------------------------------------------------------------------

class SetEvent final : public Scenario {
 public:
  void prepare() override {
    event = make_object<sync::EventBody>(object::Kind::kEvent, [](sync::EventBody&) {});
    peer = start_and_wait_until_asleep([&] {
      sync::Wait wait;
      return sync::wait(body(), event, wait) == sync::Waited::kYes ? 10 : 11;
    });
  }
  void operate() override { sync::set(body()); }
  void check() override {
    if (!sync::is_set(body())) sync::set(body());
    CHECK(result_of(peer) == 10);
  }
  void finish() override { recovery::let_go(event); }

 private:
  sync::EventBody& body() const { return *object::body<sync::EventBody>(event); }
  uint32_t event = 0;
  Child peer;
};

// --- Condition ----------------------------------------------------------------------------------------------------------

class ConditionScenario : public Scenario {
 public:
  void prepare() override { condition = make_condition(); }
  void finish() override { recovery::let_go(condition); }

 protected:
  sync::WaitersBody& body() const { return *object::body<sync::WaitersBody>(condition); }
  uint32_t condition = 0;
};

class Notify final : public ConditionScenario {
 public:
  void prepare() override {
    ConditionScenario::prepare();
    peer = start_and_wait_until_asleep([&] { return wait_once(condition); });
  }
  void operate() override { sync::notify(body(), condition, 1); }
  void check() override {
    // One notification, by the victim or by the survivor; the peer has left, or has been told.
    sync::notify(body(), condition, 1);
    CHECK(result_of(peer) == 10);
    CHECK(sync::count_waiters(body(), condition) == 0);
  }

 private:
  Child peer;
};

// A waiter is killed; the one behind it is notified all the same.
class WaitNotified final : public ConditionScenario {
 public:
  void operate() override { wait_once(condition); }
  void victim_sleeps() override { CHECK(sync::notify(body(), condition, 1) == 1); }
  void check() override {
    CHECK(sync::count_waiters(body(), condition) == 0);
    const Child peer = start_and_wait_until_asleep([&] { return wait_once(condition); });
    CHECK(sync::notify(body(), condition, 1) == 1);
    CHECK(result_of(peer) == 10);
  }
};

// Of two waiters the victim is notified. If it is killed before it goes on, the peer behind it is told in its place; else it is not.
class WaitToldFirst final : public ConditionScenario {
 public:
  void operate() override { wait_once(condition); }
  void victim_sleeps() override {
    peer = start_and_wait_until_asleep([&] { return wait_once(condition); });
    CHECK(sync::notify(body(), condition, 1) == 1);
  }
  void at_death() override { went_on = !has_waiter(victim.slot); }
  void check() override {
    if (peer.pid == 0) return;  // it never slept
    if (went_on) {
      CHECK(sync::count_waiters(body(), condition) == 1);
      CHECK(sync::notify(body(), condition, 1) == 1);
    }
    CHECK(result_of(peer) == 10);
    CHECK(sync::count_waiters(body(), condition) == 0);
  }

 private:
  bool has_waiter(uint32_t slot) const {
    for (uint32_t i = 0; i < arena::grown(arena::kNodeTable); ++i) {
      const process::Node& n = process::node(i);
      if (n.owner.load() == slot + 1 && n.object.load() == condition + 1) return true;
    }
    return false;
  }
  Child peer;
  bool went_on = false;
};

// --- Barrier ------------------------------------------------------------------------------------------------------------

class BarrierScenario : public Scenario {
 public:
  void finish() override { recovery::let_go(barrier); }

 protected:
  sync::BarrierBody& body() const { return *object::body<sync::BarrierBody>(barrier); }
  int arrive_once(bool with_action = false) const {
    const sync::Passed how = arrive_at(barrier, with_action);
    return how == sync::Passed::kPassed ? 10 : how == sync::Passed::kBroken ? 11 : 12;
  }
  // 20: passed twice; 21: broken the second time.
  int arrive_twice() const {
    const int first = arrive_once();
    return first == 10 ? 10 + arrive_once() : first;
  }
  uint32_t barrier = 0;
  Child peer;
};

// Of two parties one sleeps. The barrier is passed or broken, nobody waits for the dead.
class Arrive final : public BarrierScenario {
 public:
  explicit Arrive(bool with_action) : with_action_(with_action) {}
  void prepare() override {
    barrier = make_barrier(2);
    peer = start_and_wait_until_asleep([&] { return arrive_once(with_action_); });
  }
  void operate() override { arrive_once(with_action_); }
  void check() override {
    const bool broken = sync::is_broken(body());
    if (!broken && sync::count_waiting(body()) == 1) {  // it had not said yet that it came
      CHECK(arrive_once(with_action_) == 10);
      CHECK(result_of(peer) == 10);
    } else {
      const int how = result_of(peer);
      CHECK(how == (broken ? 11 : 10));
    }
    sync::reset(body());
    CHECK(!sync::is_broken(body()) && sync::count_waiting(body()) == 0);
  }

 private:
  bool with_action_;
};

// Both want to pass twice. Whoever has passed once is waited for in the next round, and missed there if it is dead.
class ArriveAgain final : public BarrierScenario {
 public:
  void prepare() override {
    barrier = make_barrier(2);
    peer = start_and_wait_until_asleep([&] { return arrive_twice(); });
  }
  void operate() override { arrive_twice(); }
  void check() override {
    const auto generation = static_cast<uint32_t>(body().word.load() >> 32);
    if (generation == 1 && !sync::is_broken(body())) {  // it had not said yet that it came
      CHECK(arrive_twice() == 20);
      CHECK(result_of(peer) == 20);
      return;
    }
    const int how = result_of(peer);
    CHECK(generation == 1 ? how == 11 : generation == 3 ? how == 20 : how == 21);
  }
};

}  // namespace

std::vector<Entry> wait_operations() {
  return {
      {"semaphore.take", make<Take>},
      {"semaphore.take.asleep", make<TakeAsleep>},
      {"semaphore.take.mixed", make<TakeAfterPeer>},
      {"semaphore.give", make<Give, false>},
      {"semaphore.give.sleeper", make<Give, true>},
      {"semaphore.give.bare", make<GiveBare>},
      {"event.set", make<SetEvent>},
      {"condition.notify", make<Notify>},
      {"condition.wait", make<WaitNotified>},
      {"condition.wait.told-first", make<WaitToldFirst>},
      {"barrier.arrive", make<Arrive, false>},
      {"barrier.arrive.action", make<Arrive, true>},
      {"barrier.arrive.again", make<ArriveAgain>},
  };
}

}  // namespace shoal::exhaust
