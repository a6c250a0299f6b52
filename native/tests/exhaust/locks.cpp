// Lock and RLock.
#include "held.hpp"

namespace shoal::exhaust {

namespace {

using object::Kind;
using sync::Acquired;

class LockScenario : public Scenario {
 public:
  explicit LockScenario(Kind kind) : kind_(kind) {}
  void prepare() override { lock = make_lock(kind_); }
  void at_death() override { victim_had_it = names(victim); }
  // Everybody can have it, and is told of a death just if the dead had it.
  void check() override {
    CHECK(acquire(soon()) == (victim_had_it ? Acquired::kAbandoned : Acquired::kYes));
    release();
    CHECK(acquire(soon()) == Acquired::kYes);
    release();
  }
  void finish() override { recovery::let_go(lock); }

 protected:
  sync::LockBody& body() const { return *object::body<sync::LockBody>(lock); }
  bool names(const Child& child) const { return (body().word & sync::kOwnerBits) == sync::owner_of_slot(child.slot); }
  Acquired acquire(sync::Wait wait) const {
    return kind_ == Kind::kLock ? sync::acquire(body(), lock, wait) : sync::acquire_again(body(), lock, wait);
  }
  void release() const { CHECK(kind_ == Kind::kLock ? sync::release(body()) : sync::release_once(body())); }
  // A peer's whole work. Its exit status says how it got the lock.
  int acquire_and_release() const {
    const Acquired how = acquire({});
    release();
    return how == Acquired::kYes ? 10 : how == Acquired::kAbandoned ? 11 : 12;
  }

  Kind kind_;
  uint32_t lock = 0;
  bool victim_had_it = false;
};

class Acquire final : public LockScenario {
 public:
  using LockScenario::LockScenario;
  void operate() override { acquire({}); }
};

// Nobody recovers before somebody else wants it.
class AcquireUnrecovered final : public LockScenario {
 public:
  using LockScenario::LockScenario;
  void operate() override { acquire({}); }
  void recover_victim() override {}
  void check() override {
    LockScenario::check();
    recover(victim);
    LockScenario::victim_had_it = false;
    LockScenario::check();
  }
};

class AcquireTwice final : public LockScenario {
 public:
  AcquireTwice() : LockScenario(Kind::kRLock) {}
  void begin() override { acquire({}); }
  void operate() override {
    acquire({});
    release();
    release();
  }
};

// From a holder that was killed and that nobody has recovered.
class TakeOver final : public LockScenario {
 public:
  using LockScenario::LockScenario;
  void prepare() override {
    LockScenario::prepare();
    holder = killed_after([&] { acquire({}); });
  }
  void operate() override { acquire({}); }
  void at_death() override { victim_had_it = true; }  // or the first one still does
  void check() override {
    CHECK(acquire(soon()) == Acquired::kAbandoned);
    release();
    recover(holder);
    victim_had_it = false;
    LockScenario::check();
  }

 private:
  Child holder;
};

// The victim sleeps behind the survivor, a peer behind the victim. The survivor lets go while both sleep.
class AcquireHeld final : public LockScenario {
 public:
  using LockScenario::LockScenario;
  void prepare() override {
    LockScenario::prepare();
    CHECK(acquire(soon()) == Acquired::kYes);
  }
  void operate() override { acquire({}); }
  void victim_sleeps() override {
    peer = start_and_wait_until_asleep([&] { return acquire_and_release(); });
    release();
    released = true;
  }
  void check() override {
    if (!released) release();
    if (peer.pid != 0) CHECK(result_of(peer) == (victim_had_it ? 11 : 10));
    if (peer.pid != 0) victim_had_it = false;
    LockScenario::check();
  }

 private:
  Child peer;
  bool released = false;
};

class Release final : public LockScenario {
 public:
  using LockScenario::LockScenario;
  void begin() override { acquire({}); }
  void operate() override { release(); }
};

// A peer sleeps behind the victim.
class ReleaseToSleeper final : public LockScenario {
 public:
  using LockScenario::LockScenario;
  void begin() override { acquire({}); }
  void before_steps() override {
    peer = start_and_wait_until_asleep([&] { return acquire_and_release(); });
  }
  void operate() override { release(); }
  // The peer may have the lock before anybody recovers: it sleeps on the victim's token, too.
  void check() override {
    const int how = result_of(peer);
    CHECK(how == 10 || how == 11);
    CHECK(!victim_had_it || how == 11);
    victim_had_it = false;
    LockScenario::check();
  }

 private:
  Child peer;
};

}  // namespace

std::vector<Entry> lock_operations() {
  return {
      {"lock.acquire", make<Acquire, Kind::kLock>},
      {"lock.acquire.unrecovered", make<AcquireUnrecovered, Kind::kLock>},
      {"lock.acquire.from-dead", make<TakeOver, Kind::kLock>},
      {"lock.acquire.held", make<AcquireHeld, Kind::kLock>},
      {"lock.release", make<Release, Kind::kLock>},
      {"lock.release.sleeper", make<ReleaseToSleeper, Kind::kLock>},
      {"rlock.acquire", make<Acquire, Kind::kRLock>},
      {"rlock.acquire.unrecovered", make<AcquireUnrecovered, Kind::kRLock>},
      {"rlock.acquire.from-dead", make<TakeOver, Kind::kRLock>},
      {"rlock.acquire.held", make<AcquireHeld, Kind::kRLock>},
      {"rlock.nested", make<AcquireTwice>},
      {"rlock.release", make<Release, Kind::kRLock>},
      {"rlock.release.sleeper", make<ReleaseToSleeper, Kind::kRLock>},
  };
}

}  // namespace shoal::exhaust
