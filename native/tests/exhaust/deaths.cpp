// Recovery itself: who recovers a dead process is killed in the middle of it, and somebody else begins again.
#include "channels.hpp"
#include "recovery/recovery.hpp"
#include "sync/barrier.hpp"

namespace shoal::exhaust {

namespace {

using channel::Result;

class RecoveryScenario : public Scenario {
 public:
  void prepare() override {
    set_up();
    dead = killed_after([&] { leave_behind(); });
  }
  void operate() override { recovery::recover(dead.slot); }
  void recover_victim() override {
    recovery::recover(dead.slot);
    recover(victim);
  }

 protected:
  virtual void set_up() = 0;
  virtual void leave_behind() = 0;  // in the process that dies
  Child dead;
};

// The one who was recovering is recovered before the one it recovered.
template <class Kind>
class LatestFirst final : public Kind {
 public:
  using Kind::Kind;
  void recover_victim() override {
    recover(this->victim);
    recovery::recover(this->dead.slot);
  }
};

class RecoverLock : public RecoveryScenario {
 public:
  void check() override {
    sync::Wait wait = soon();
    CHECK(sync::acquire(body(), lock, wait) == sync::Acquired::kAbandoned && sync::release(body()));
    CHECK(sync::acquire(body(), lock, wait) == sync::Acquired::kYes && sync::release(body()));
  }
  void finish() override { recovery::let_go(lock); }

 private:
  void set_up() override { lock = make_lock(); }
  void leave_behind() override {
    sync::Wait wait;
    sync::acquire(body(), lock, wait);
  }
  sync::LockBody& body() const { return *object::body<sync::LockBody>(lock); }
  uint32_t lock = 0;
};

// The permit comes back once, and the peer who sleeps for it gets it.
class RecoverPermit : public RecoveryScenario {
 public:
  void check() override {
    CHECK(result_of(peer) == 10);
    CHECK(sync::value_of(body()) == 2);
  }
  void finish() override { recovery::let_go(semaphore); }

 private:
  void set_up() override { semaphore = make_semaphore(2, 8); }  // one too many would be seen
  void leave_behind() override {
    take();
    take();
  }
  void before_steps() override {
    peer = start_and_wait_until_asleep([&] { return sync::release_permit(body(), take()) ? 10 : 11; });
  }
  uint32_t take() const {
    uint32_t permit = 0;
    sync::Wait wait;
    CHECK(sync::acquire_permit(body(), semaphore, wait, permit) == sync::Obtained::kYes);
    return permit;
  }
  sync::SemaphoreBody& body() const { return *object::body<sync::SemaphoreBody>(semaphore); }
  uint32_t semaphore = 0;
  Child peer;
};

// Of what was one of the parties: the peer finds the barrier broken.
class BarrierRecovery : public RecoveryScenario {
 public:
  void check() override {
    CHECK(result_of(peer) == 10);
    CHECK(sync::is_broken(body()));
  }
  void finish() override { recovery::let_go(barrier); }

 protected:
  sync::Passed arrive() const { return arrive_at(barrier, false); }
  sync::BarrierBody& body() const { return *object::body<sync::BarrierBody>(barrier); }
  uint32_t barrier = 0;
  Child peer;
};

// Killed as a party that had arrived.
class RecoverParty final : public BarrierRecovery {
 public:
  void check() override {
    CHECK(sync::is_broken(body()));
    BarrierRecovery::check();
  }

 private:
  void set_up() override {
    barrier = make_barrier(3);
    peer = start_and_wait_until_asleep([&] { return arrive() == sync::Passed::kBroken ? 10 : 11; });
  }
  void leave_behind() override {
    body().parties = 2;  // it need not sleep: the last one, with an action
    sync::Party party;
    sync::Wait wait;
    CHECK(sync::arrive(body(), barrier, true, party, wait) == sync::Passed::kMustAct);
    body().parties = 3;
  }
};

// Killed after it had passed, and before it came again. Who waits for it breaks the barrier, once none is left who may come in its place: the first who recovers
// was started later than the round ended.
class RecoverMember final : public BarrierRecovery {
  void set_up() override {
    barrier = make_barrier(2);
    peer = start_and_wait_until_asleep([&] {
      if (arrive() != sync::Passed::kPassed) return 12;
      return arrive() == sync::Passed::kBroken ? 10 : 11;
    });
  }
  void leave_behind() override { CHECK(arrive() == sync::Passed::kPassed); }
};

// Killed as a waiter that had been notified: of two peers behind it one goes on in its place, the second too at most for a recovery begun twice.
class RecoverWaiter : public RecoveryScenario {
 public:
  void check() override {
    CHECK(result_of(peers[0]) == 10);
    const uint32_t left = sync::count_waiters(body(), condition);
    CHECK(left <= 1);
    if (left == 1) CHECK(sync::notify(body(), condition, 1) == 1);
    CHECK(result_of(peers[1]) == 10);
  }
  void finish() override { recovery::let_go(condition); }

 private:
  void set_up() override { condition = make_condition(); }
  void leave_behind() override {
    sync::Waiter waiter;
    CHECK(sync::enter(body(), condition, waiter));
    CHECK(sync::notify(body(), condition, 1) == 1);
  }
  void before_steps() override {
    for (Child& peer : peers) peer = start_and_wait_until_asleep([&] { return wait_once(condition); });
  }
  sync::WaitersBody& body() const { return *object::body<sync::WaitersBody>(condition); }
  uint32_t condition = 0;
  Child peers[2];
};

// Killed inside a channel's section, with a blob in its hands. `getting`: before the commit of a get, else of a put.
class RecoverSection : public RecoveryScenario {
 public:
  explicit RecoverSection(bool getting, uint32_t flags) : getting_(getting), flags_(flags) {}
  void check() override {
    CHECK(channel::length(ring()) == 2);
    for (uint64_t n : {1, 2}) CHECK(get_number(channel, soon()) == n && done());
    CHECK(put_number(channel, 3, {.blob = true}, soon()) == Result::kDone && get_number(channel, soon()) == 3 &&
          done());
    if ((flags_ & channel::kJoinable) != 0) {
      sync::Wait wait = soon();
      CHECK(channel::join(channel, wait) == Result::kDone && !done());
    }
  }
  void finish() override { recovery::let_go(channel); }

 private:
  void set_up() override {
    channel = make_channel({.flags = flags_});
    for (uint64_t n : {1, 2}) CHECK(put_number(channel, n, {.blob = true}, soon()) == Result::kDone);
  }
  void leave_behind() override {
    sync::Wait wait;
    if (getting_) {
      // What take() does, up to its commit.
      CHECK(sync::lock(ring().head_mutex, wait) == sync::Lock::kTaken);
      const channel::Position head = channel::Position::make(ring().first.load(), 64, 0);
      ring().head = head.raw;
      blob::Name name;
      std::memcpy(&name.raw, channel_data(head) + sizeof(channel::MessageHead), 8);
      note(ring().getting, head.raw, name);
      CHECK(blob::take(name));
    } else {
      CHECK(sync::lock(ring().tail_mutex, wait) == sync::Lock::kTaken);
      blob::Name name;
      CHECK(blob::allocate(kBlobPayload, 0, name) == arena::Status::kOk);
      note(ring().putting, ring().tail.load(), name);
      CHECK(blob::carry(name));
    }
  }
  static void note(channel::Pending& pending, uint64_t at, blob::Name name) {
    pending.at = at;
    pending.blob = name.raw;
    pending.slot = process::mine() + 1;
  }
  static char* channel_data(channel::Position at) {
    return arena::cell(arena::kSegmentsAt + at.segment() * arena::kSegmentBytes, arena::kSegmentBytes) + at.offset();
  }
  bool done() const {
    sync::Wait wait = soon();
    return (flags_ & channel::kJoinable) == 0 || channel::task_done(channel, wait);
  }
  channel::Ring& ring() const { return channel::at(channel)->ring; }
  bool getting_;
  uint32_t flags_, channel = 0;
};

// Messages that it had taken from a joinable queue, and a peer in join().
class RecoverAccounts : public RecoveryScenario {
 public:
  // Whether another process reports what the dead had taken: then only the last of the messages is lost.
  explicit RecoverAccounts(bool reported_by_others) : reported_by_others_(reported_by_others) {}
  void check() override {
    sync::Wait wait = soon();
    if (reported_by_others_) CHECK(channel::task_done(channel, wait));
    CHECK(result_of(peer) == 10);
    CHECK(!channel::task_done(channel, wait));
  }
  void finish() override { recovery::let_go(channel); }

 private:
  void set_up() override {
    channel = make_channel({.flags = channel::kJoinable});
    for (uint64_t n : {1, 2, 3}) CHECK(put_number(channel, n, {}, soon()) == Result::kDone);
    sync::Wait wait = soon();
    if (reported_by_others_) CHECK(channel::task_done(channel, wait));
    peer = start_and_wait_until_asleep([&] {
      sync::Wait forever;
      return channel::join(channel, forever) == Result::kDone ? 10 : 11;
    });
  }
  void leave_behind() override {
    for (uint64_t n : {1, 2, 3}) CHECK(get_number(channel, soon()) == n);
  }
  const bool reported_by_others_;
  uint32_t channel = 0;
  Child peer;
};

// Things that only it had: blobs, an object that it was making, one it was destroying, one in use, a sleeper's node, a spinner's permit.
class RecoverBelongings : public RecoveryScenario {
 public:
  uint64_t quota() const override { return 6ull << 20; }
  void check() override {}

 private:
  void set_up() override {}
  void leave_behind() override {
    blob::Name small, large;
    CHECK(blob::allocate(100, 0, small) == arena::Status::kOk &&
          blob::allocate(1'500'000, 0, large) == arena::Status::kOk);
    uint32_t making = 0;
    CHECK(object::claim(object::Kind::kChannel, making) == arena::Status::kOk);
    const uint32_t destroying = make_channel({.flags = channel::kJoinable});
    CHECK(put_number(destroying, 1, {.blob = true}, soon()) == Result::kDone);
    CHECK(object::release(destroying));
    CHECK(put_number(make_channel({}), 1, {.blob = true}, soon()) == Result::kDone);
    CHECK(process::claim_node(process::NodeKind::kSleeper, making) != process::kNoNode);
    arena::header().permits[0] = process::mine() + 1;
  }
};

// What only it had, and has been retired: the slot goes last, so whoever finds that it has moved on (a join does not look further) finds nothing left. It
// dies when the recoverer is there already, which would otherwise keep what existed at its own fork.
class RecoverRetired final : public Scenario {
 public:
  void before_steps() override {
    dead = killed_after([] {
      make_lock();
      const uint32_t channel = make_channel({});
      CHECK(put_number(channel, 1, {.blob = true}, soon()) == Result::kDone);
    });
    life = process::token_of(dead.slot);
  }
  void operate() override { recovery::recover_all(); }
  void at_death() override {
    // Whoever cannot reach something leaves it, for the next sweep or as its own to destroy.
    if (failing || process::names(life, process::slot(dead.slot).word.load())) return;
    for (uint32_t i = 0; i < arena::grown(arena::kObjectTable); ++i)
      CHECK(object::load(i).state() == object::State::kFree);
    blob::for_each([](blob::Name, blob::Word) { CHECK(!"a blob is left"); });
  }
  void recover_victim() override {
    recovery::recover(dead.slot);
    recover(victim);
  }
  void check() override {}

 private:
  Child dead;
  process::Token life = 0;
};

}  // namespace

std::vector<Entry> recovery_operations() {
  return {
      {"recovery.lock", make<RecoverLock>},
      {"recovery.permit", make<RecoverPermit>},
      {"recovery.party", make<RecoverParty>},
      {"recovery.party.between-rounds", make<RecoverMember>},
      {"recovery.waiter", make<RecoverWaiter>},
      {"recovery.get", make<RecoverSection, true, 0u>},
      {"recovery.put", make<RecoverSection, false, 0u>},
      {"recovery.put.joinable", make<RecoverSection, false, channel::kJoinable>},
      {"recovery.accounts", make<RecoverAccounts, false>},
      {"recovery.accounts.others-report", make<RecoverAccounts, true>},
      {"recovery.belongings", make<RecoverBelongings>},
      {"recovery.retired", make<RecoverRetired>},
      {"recovery.lock.latest-first", make<LatestFirst<RecoverLock>>},
      {"recovery.permit.latest-first", make<LatestFirst<RecoverPermit>>},
      {"recovery.get.latest-first", make<LatestFirst<RecoverSection>, true, 0u>},
      {"recovery.put.latest-first", make<LatestFirst<RecoverSection>, false, channel::kJoinable>},
      {"recovery.belongings.latest-first", make<LatestFirst<RecoverBelongings>>},
  };
}

}  // namespace shoal::exhaust
