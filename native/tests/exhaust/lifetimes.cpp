// Objects and slots: how they come and go. The census of main.cpp says that nothing is left of them.
#include "channels.hpp"
#include "recovery/recovery.hpp"
#include "task/task.hpp"

namespace shoal::exhaust {

namespace {

using channel::Result;

enum class Made { kLock, kChannel, kJoinable, kTasks };

// What of each kind a process may make, with something in it. Two objects for kTasks.
std::vector<uint32_t> make_some(Made what, bool filled) {
  uint32_t first = 0, second = 0, generation = 0;
  switch (what) {
    case Made::kLock:
      return {make_lock()};
    case Made::kChannel:
      first = make_channel({});
      break;
    case Made::kJoinable:
      first = make_channel({.flags = channel::kJoinable});
      break;
    case Made::kTasks:
      CHECK(task::create(first, generation, second, generation) == arena::Status::kOk);
      break;
  }
  if (filled) {
    CHECK(put_number(first, 1, {}, soon()) == Result::kDone);
    CHECK(put_number(first, 2, {.blob = true}, soon()) == Result::kDone);
    for (uint64_t n = 3; n < 12; ++n) CHECK(put_number(first, n, {.words = 1020}, soon()) == Result::kDone);
  }
  if (what == Made::kTasks) return {first, second};
  return {first};
}

void let_all_go(const std::vector<uint32_t>& objects) {
  for (const uint32_t index : objects) recovery::let_go(index);
}

class Create final : public Scenario {
 public:
  explicit Create(Made what) : what_(what) {}
  void operate() override { make_some(what_, false); }
  void check() override { let_all_go(make_some(what_, true)); }

 private:
  Made what_;
};

class Release final : public Scenario {
 public:
  // `known`: others may have heard of it, so it is retired first.
  Release(Made what, bool known) : what_(what), known_(known) {}
  void begin() override {
    objects = make_some(what_, true);
    if (known_) process::cancel(process::reserve(0));
  }
  void operate() override { let_all_go(objects); }
  void recover_victim() override { CHECK(recovery::recover_all() == (known_ ? 2 : 1)); }
  void check() override { let_all_go(make_some(what_, true)); }

 private:
  Made what_;
  bool known_;
  std::vector<uint32_t> objects;
};

// The survivor holds it, too, and goes on using it.
class ReleaseShared final : public Scenario {
 public:
  void prepare() override { lock = make_lock(); }
  void begin() override { CHECK(object::adopt(lock, object::load(lock).generation(), object::Kind::kLock)); }
  void operate() override { recovery::let_go(lock); }
  void check() override {
    CHECK(object::load(lock).state() == object::State::kLive);
    sync::Wait wait = soon();
    CHECK(sync::acquire(*object::body<sync::LockBody>(lock), lock, wait) == sync::Acquired::kYes);
    CHECK(sync::release(*object::body<sync::LockBody>(lock)));
  }
  void finish() override { recovery::let_go(lock); }

 private:
  uint32_t lock = 0;
};

// `retired`: nobody holds it any more, but the victim has it from its fork.
class Adopt final : public Scenario {
 public:
  explicit Adopt(bool retired) : retired_(retired) {}
  void prepare() override {
    lock = make_lock();
    generation = object::load(lock).generation();
  }
  void before_steps() override {
    if (retired_) recovery::let_go(lock);
  }
  void operate() override { object::adopt(lock, generation, object::Kind::kLock); }
  void check() override {
    if (retired_) {
      CHECK(!object::adopt(lock, generation, object::Kind::kLock) ||
            object::load(lock).state() == object::State::kLive);
      recovery::let_go(lock);
    } else {
      CHECK(object::load(lock).state() == object::State::kLive && object::load(lock).generation() == generation);
    }
  }
  void finish() override {
    if (!retired_) recovery::let_go(lock);
  }

 private:
  bool retired_;
  uint32_t lock = 0, generation = 0;
};

// A message that mentions a lock keeps it alive, when its sender is dead.
class SendLock final : public Scenario {
 public:
  void prepare() override {
    channel = make_channel({});
    CHECK(put_number(channel, 1, {.blob = true}, soon()) == Result::kDone && get_number(channel, soon()) == 1);
    before = puts(channel);
  }
  void operate() override {
    const uint32_t lock = make_lock();
    object::hold(lock);
    object::note_listed(lock);
    channel::Message m;
    if (blob::allocate(64, 1, m.blob) != arena::Status::kOk) return;
    m.blob_bytes = 64;
    m.tag = 1;
    blob::mentions(blob::head(m.blob))[0] = {lock, object::load(lock).generation()};
    blob::set_listed(m.blob);
    sync::Wait wait;
    channel::put(channel, m, wait);
    recovery::let_go(lock);
  }
  void at_death() override { sent = puts(channel) != before; }
  void check() override {
    recovery::enter();
    recovery::sweep_retired();
    recovery::leave();
    char buffer[channel::kInline];
    channel::Taken out;
    out.buffer = buffer;
    sync::Wait wait = at_once();
    CHECK(channel::get(channel, out, wait) == (sent ? Result::kDone : Result::kEmpty));
    if (!sent) return;
    const blob::Mention mention = blob::mentions(blob::head(out.blob))[0];
    CHECK(object::adopt(mention.object, mention.generation, object::Kind::kLock));
    recovery::let_go(out.blob, process::mine());
    auto& body = *object::body<sync::LockBody>(mention.object);
    wait = soon();
    CHECK(sync::acquire(body, mention.object, wait) == sync::Acquired::kYes && sync::release(body));
    recovery::let_go(mention.object);
  }
  void finish() override { recovery::let_go(channel); }

 private:
  uint32_t channel = 0, before = 0;
  bool sent = false;
};

// The victim receives it.
class ReceiveLock final : public Scenario {
 public:
  void prepare() override {
    channel = make_channel({});
    const uint32_t lock = make_lock();
    object::hold(lock);
    object::note_listed(lock);
    channel::Message m;
    CHECK(blob::allocate(64, 1, m.blob) == arena::Status::kOk);
    m.blob_bytes = 64;
    blob::mentions(blob::head(m.blob))[0] = {lock, object::load(lock).generation()};
    blob::set_listed(m.blob);
    sync::Wait wait = soon();
    CHECK(channel::put(channel, m, wait) == Result::kDone);
    recovery::let_go(lock);
  }
  void operate() override {
    char buffer[channel::kInline];
    channel::Taken out;
    out.buffer = buffer;
    sync::Wait wait;
    channel::get(channel, out, wait);
    const blob::Mention mention = blob::mentions(blob::head(out.blob))[0];
    object::adopt(mention.object, mention.generation, object::Kind::kLock);
    recovery::let_go(out.blob, process::mine());
    recovery::let_go(mention.object);
  }
  void check() override {
    char buffer[channel::kInline];
    channel::Taken out;
    out.buffer = buffer;
    sync::Wait wait = at_once();
    if (channel::get(channel, out, wait) != Result::kDone) return;
    const blob::Mention mention = blob::mentions(blob::head(out.blob))[0];
    CHECK(object::adopt(mention.object, mention.generation, object::Kind::kLock));
    recovery::let_go(out.blob, process::mine());
    recovery::let_go(mention.object);
  }
  void finish() override { recovery::let_go(channel); }

 private:
  uint32_t channel = 0;
};

// Retired objects of several kinds, and who sweeps them is killed.
class Sweep final : public Scenario {
 public:
  void prepare() override {
    const std::vector<uint32_t> lock = make_some(Made::kLock, true), channel = make_some(Made::kChannel, true),
                                joinable = make_some(Made::kJoinable, true);
    process::cancel(process::reserve(0));
    for (const auto* objects : {&lock, &channel, &joinable}) let_all_go(*objects);
    CHECK(recovery::recover_all() == 1);
  }
  void operate() override {
    recovery::enter();
    recovery::sweep_retired();
    recovery::leave();
  }
  void check() override { let_all_go(make_some(Made::kJoinable, true)); }
};

// --- slots --------------------------------------------------------------------------------------------------------------

// A parent killed while it reserves a slot for a child that never comes.
class Reserve final : public Scenario {
 public:
  void operate() override { process::cancel(process::reserve(process::kForked)); }
  void recover_victim() override {
    recover(victim);
    // As if the minute had passed that an unclaimed slot is given.
    for (uint32_t i = 0; i < arena::kSlots; ++i) {
      process::Slot& s = process::slot(i);
      if (process::state_of(s.word.load()) == process::State::kReserved) s.reserved_at = 1;
    }
    recovery::recover_all();
  }
  void check() override {}
};

// A child killed while it claims its slot, from the fork on; one that is to end with its parent asks the kernel for word of that.
class ClaimSlot final : public Scenario {
 public:
  explicit ClaimSlot(uint32_t flags) : flags_(flags) {}
  bool from_birth() const override { return true; }
  void prepare() override { process::set_fork_flags(flags_); }
  void operate() override {}
  void check() override {}

 private:
  uint32_t flags_;
};

// A process killed while it says good-bye with a lock in its hands: handed over, if it had said that it left in order; else abandoned.
class Leave final : public Scenario {
 public:
  explicit Leave(int exit_code) : exit_code_(exit_code) {}
  void prepare() override { lock = make_lock(); }
  void begin() override {
    sync::Wait wait;
    sync::acquire(body(), lock, wait);
  }
  void operate() override { process::leave(exit_code_, true); }
  void at_death() override { in_order = process::left_in_order(victim.slot); }
  void check() override {
    sync::Wait wait = at_once();
    CHECK(sync::acquire(body(), lock, wait) == (in_order ? sync::Acquired::kTimeout : sync::Acquired::kAbandoned));
    CHECK(!in_order || exit_code_ == 0);
    CHECK(sync::release(body()));
  }
  void finish() override { recovery::let_go(lock); }

 private:
  sync::LockBody& body() const { return *object::body<sync::LockBody>(lock); }
  int exit_code_;
  uint32_t lock = 0;
  bool in_order = false;
};

}  // namespace

std::vector<Entry> lifetime_operations() {
  return {
      {"object.create", make<Create, Made::kLock>},
      {"object.create.channel", make<Create, Made::kChannel>},
      {"object.create.joinable", make<Create, Made::kJoinable>},
      {"object.create.tasks", make<Create, Made::kTasks>},
      {"object.release", make<Release, Made::kLock, false>},
      {"object.release.channel", make<Release, Made::kChannel, false>},
      {"object.release.joinable", make<Release, Made::kJoinable, false>},
      {"object.release.tasks", make<Release, Made::kTasks, false>},
      {"object.release.known", make<Release, Made::kLock, true>},
      {"object.release.shared", make<ReleaseShared>},
      {"object.adopt", make<Adopt, false>},
      {"object.adopt.retired", make<Adopt, true>},
      {"object.send", make<SendLock>},
      {"object.receive", make<ReceiveLock>},
      {"object.sweep", make<Sweep>},
      {"slot.reserve", make<Reserve>},
      {"slot.claim", make<ClaimSlot, 0u>},
      {"slot.claim.dependent", make<ClaimSlot, process::kDieWithParent>},
      {"slot.leave", make<Leave, 0>},
      {"slot.leave.failing", make<Leave, 3>},
  };
}

}  // namespace shoal::exhaust
