#include "channel/channel.hpp"

#include <unistd.h>

#include <algorithm>
#include <functional>

#include "channel/segment.hpp"

namespace shoal::channel {

namespace {

// The account of who has left or died: what others are to report, less what the dead have reported for others.
constexpr uint32_t kOrphans = arena::kSlots;
// What the dead were at, and has neither been reported, as far as can be told, nor counted as done.
constexpr uint32_t kLost = arena::kSlots + 1;
constexpr uint32_t kAccounts = arena::kSlots + 2;
// In the place of a dead process's count in hand: what is left of its account without what is lost.
constexpr uint32_t kDecided = 1u << 31;

uint64_t cost_of(const Message& m) { return m.bytes + m.blob_bytes + 16; }

uint64_t cost_of(const Taken& t) {
  const blob::Head* h = t.blob.there() ? blob::head(t.blob) : nullptr;
  return t.bytes + (h != nullptr ? h->payload_bytes : 0) + 16;
}

// A joinable queue's accounts, of each slot: how many messages it has taken, less those that it has reported done. Below 0 (modulo 2^32), if it reports what others
// have taken, or reports in advance.
std::atomic<uint32_t>* accounts(const Channel& c) {
  return reinterpret_cast<std::atomic<uint32_t>*>(segment(c.accounts) + kFirstOffset);
}
int32_t balance_of(const Channel& c, uint32_t account) { return static_cast<int32_t>(accounts(c)[account].load()); }

// Beside them: how many of those it is still at. Who asks for a message is done with the one before, though it may be for somebody else to report it.
std::atomic<uint32_t>* in_hand(const Channel& c) { return accounts(c) + kAccounts; }
void put_one_down(const Channel& c, uint32_t slot) {
  std::atomic<uint32_t>& count = in_hand(c)[slot];
  for (uint32_t n = count.load(); n != 0 && !count.compare_exchange_weak(n, n - 1);) {
  }
}

Channel& of(Ring& ring) {
  static_assert(offsetof(Channel, ring) == 0);
  return reinterpret_cast<Channel&>(ring);
}

uint32_t unfinished(const Channel& c) {
  return (Position{c.ring.tail.load()}.count() - c.done_total.load()) & 0xfffffff;
}

// taken = done + sum of accounts, always; one death can have left one account one too high (raised before the commit of a get that did not happen, or
// not yet lowered after a done was counted). `touching` says which.
void balance_accounts(Channel& c) {
  uint32_t sum = c.done_total.load();
  for (uint32_t s = 0; s < kAccounts; ++s) sum += accounts(c)[s].load();
  const uint32_t taken = Position{c.ring.head.load()}.count();
  if (((sum - taken) & 0xfffffff) == 1) accounts(c)[c.touching.load()].fetch_sub(1);
}

void repair_head_of(Ring& ring, uint32_t dead_slot, bool committed) {
  Channel& c = of(ring);
  const uint32_t flags = c.flags.load();
  if ((flags & kJoinable) != 0) balance_accounts(c);
  if ((flags & kTasks) != 0 && !committed) {
    std::atomic<uint64_t>& running = process::slot(dead_slot).running;
    if ((running.load() & 0xfffff) == ring.object + 1) running.store(0);
  }
}

void repair_tail_of(Ring& ring) {
  Channel& c = of(ring);
  c.bell.store(kUnsure);
}

// The account with the least, or the greatest balance.
template <class Before>
uint32_t extreme(const Channel& c, Before before) {
  uint32_t found = 0;
  for (uint32_t s = 1; s < kAccounts; ++s)
    if (before(balance_of(c, s), balance_of(c, found))) found = s;
  return found;
}

// One message that `taker` has taken was one of those that `reporter` has reported.
void set_off(Channel& c, uint32_t taker, uint32_t reporter) {
  c.touching.store(reporter);
  accounts(c)[reporter].fetch_add(1);
  accounts(c)[taker].fetch_sub(1);
}

// Who reports for others all the time would have an account of any size. What is beyond this is set off against who has taken most.
constexpr int32_t kOverdraft = -1024;
void limit_overdraft(Channel& c, uint32_t me) {
  if (balance_of(c, me) >= kOverdraft) return;
  const uint32_t other = extreme(c, std::greater<>());
  if (balance_of(c, other) > 0) set_off(c, other, me);
}

// A report that is not counted, since all is done, says that somebody else has reported what this process has taken: one of those whose account is below 0.
void settle_with_others(Channel& c, uint32_t me) {
  const uint32_t other = extreme(c, std::less<>());
  if (balance_of(c, me) > 0 && balance_of(c, other) < 0) set_off(c, me, other);
}

// How many reports are for messages that somebody was still at, or has not taken yet: those that others have made, beyond what has been taken and put down.
uint32_t reports_to_come_true(const Channel& c) {
  int64_t reports = 0;
  for (uint32_t s = 0; s < kAccounts; ++s) {
    const int64_t balance = balance_of(c, s), held = in_hand(c)[s].load() & ~kDecided;
    if (balance < 0)
      reports -= balance;
    else if (s != kLost)
      reports -= std::max<int64_t>(balance - held, 0);
  }
  return static_cast<uint32_t>(std::max<int64_t>(reports, 0));
}

// Counts what is lost as done, but for as many messages as have perhaps been reported. Those are looked at again whenever it may have turned out that the report was for
// another message. Under head_mutex. Once all is done, none is missing.
void forgive_losses(Channel& c) {
  if (balance_of(c, kLost) <= 0) return;
  const auto reported = static_cast<int32_t>(reports_to_come_true(c));
  while (balance_of(c, kLost) > 0) {
    if (unfinished(c) == 0) {
      const uint32_t other = extreme(c, std::less<>());
      if (balance_of(c, other) >= 0) return;
      set_off(c, kLost, other);
    } else if (balance_of(c, kLost) <= reported) {
      return;
    } else {
      c.touching.store(kLost);
      c.done_total.fetch_add(1);
      accounts(c)[kLost].fetch_sub(1);
    }
  }
}

// How many of the messages that a process had taken are lost. One that has left in good order may have handed its messages to somebody who will report them. Of one that
// was killed, or has failed, all those that it has not reported; but where others report what they have not taken, only what it was still at.
uint32_t lost_by(const Channel& c, uint32_t dead) {
  const int32_t held = balance_of(c, dead);
  if (held <= 0 || process::left_in_order(dead)) return 0;
  const auto most = static_cast<uint32_t>(held);
  const bool others_report = balance_of(c, extreme(c, std::less<>())) < 0;
  return others_report ? std::min(most, in_hand(c)[dead].load()) : most;
}

// The rest, and what the dead have reported for others, is the orphans'. Who repeats it, because the one before was killed in the middle, goes by what that one had decided.
void close_account(Channel& c, uint32_t dead, uint32_t lost) {
  std::atomic<uint32_t>*counts = accounts(c), &decided = in_hand(c)[dead];
  if ((decided.load() & kDecided) == 0)
    decided.store(kDecided | static_cast<uint32_t>(std::max(balance_of(c, dead) - static_cast<int32_t>(lost), 0)));
  const auto rest = static_cast<int32_t>(decided.load() & ~kDecided);
  c.touching.store(dead);
  while (balance_of(c, dead) > rest) {
    counts[kLost].fetch_add(1);
    counts[dead].fetch_sub(1);
  }
  while (balance_of(c, dead) > 0) {
    counts[kOrphans].fetch_add(1);
    counts[dead].fetch_sub(1);
  }
  while (balance_of(c, dead) < 0) {
    counts[dead].fetch_add(1);
    counts[kOrphans].fetch_sub(1);
  }
  decided.store(0);
}

const Repairs kRepairs = {repair_head_of, repair_tail_of};

struct PutState {
  Channel* c;
  const Message* message;
  int bell;
};

bool may_put(void* state) {
  auto& s = *static_cast<PutState*>(state);
  Channel& c = *s.c;
  const uint32_t here = length(c.ring);
  if (c.maxsize != 0 && here >= c.maxsize) return false;
  if (c.byte_limit != 0) {
    if (here == 0)
      c.bytes_put.store(
          c.bytes_taken.load());  // what a killed process did not count is forgotten when the ring is empty
    else if (static_cast<int64_t>(c.bytes_put.load() - c.bytes_taken.load() + cost_of(*s.message)) >
             static_cast<int64_t>(c.byte_limit))
      return false;  // signed: what was taken may be counted after the ring was found empty
    c.bytes_put.fetch_add(cost_of(*s.message));
  }
  return true;
}

// Under tail_mutex. First the word: killed in between, repair knows nothing for certain and says so.
void ring(Channel& c, int bell) {
  c.bell.store(kRung);
  os::add_one(bell);
}

// The bell is rung before the commit: a producer killed in between has rung for nothing, never kept silent about something.
void ring_bell(void* state) {
  auto& s = *static_cast<PutState*>(state);
  Channel& c = *s.c;
  if (c.armed.load() == 0 || s.bell < 0 || c.bell.load() == kRung) return;
  ring(c, s.bell);
  c.armed.fetch_and(kArmedAlways);
}

struct TakeState {
  Channel* c;
  int bell;
};

void note_taken(void* state, const MessageHead& m) {
  auto& s = *static_cast<TakeState*>(state);
  Channel& c = *s.c;
  const uint32_t flags = c.flags.load(std::memory_order_relaxed), me = process::mine();
  if ((flags & kJoinable) != 0) {
    c.touching.store(me);
    accounts(c)[me].fetch_add(1);
    in_hand(c)[me].fetch_add(1);
  }
  if ((flags & kTasks) != 0) process::slot(me).running.store(m.tag << 20 | (c.ring.object + 1));
}

void silence_if_rung(void* state) {
  auto& s = *static_cast<TakeState*>(state);
  if (s.bell >= 0 && s.c->bell.load() != kSilent) silence(*s.c, s.bell);
}

TakeHook take_hook(Channel& c, TakeState& state) {
  TakeHook hook;
  hook.state = &state;
  if ((c.flags.load(std::memory_order_relaxed) & (kJoinable | kTasks)) != 0) hook.before_commit = note_taken;
  if (state.bell >= 0) hook.when_empty = silence_if_rung;
  return hook;
}

// What a process takes that had reported in advance, or puts down, may show that a message which was thought to be reported was not.
void look_at_losses(Channel& c, sync::Wait& wait) {
  if (balance_of(c, kLost) == 0 || enter_head(c.ring, wait, kRepairs) != Result::kDone) return;
  forgive_losses(c);
  const bool all = unfinished(c) == 0;
  sync::unlock(c.ring.head_mutex);
  if (all) sync::open_all(c.done);
}

Result look(Channel& c, Taken& out, sync::Wait& wait, int bell) {
  TakeState state{&c, bell};
  const Result r = take(c.ring, out, wait, take_hook(c, state), kRepairs);
  if (r != Result::kDone) return r;
  if ((c.maxsize | c.byte_limit) != 0) {
    if (c.byte_limit != 0) c.bytes_taken.fetch_add(cost_of(out));
    sync::open_one(c.space);
  }
  if ((c.flags.load(std::memory_order_relaxed) & kJoinable) != 0) look_at_losses(c, wait);
  return r;
}

uint64_t gate_offset(uint32_t index, const sync::Gate& gate) { return object::offset_of(index, &gate.sequence); }

// Sleeps at the items' gate until look_again(result) says that the wait is over. Whatever woke it and is still there when it leaves is for somebody else.
template <class Look>
Result sleep_for_items(uint32_t index, sync::Wait& wait, Look look_again) {
  Channel& c = *at(index);
  Result result = Result::kEmpty;
  sync::Sleeper sleeper;
  for (;;) {
    sync::announce(c.items, sleeper);
    if (look_again(result)) break;
    const sync::Slept slept = sync::sleep(c.items, sleeper, index, gate_offset(index, c.items), wait);
    if (slept == sync::Slept::kAgain) continue;
    if (slept == sync::Slept::kInterrupted) result = Result::kInterrupted;
    break;
  }
  sync::leave(c.items, sleeper, !is_empty(c.ring));
  return result;
}

}  // namespace

arena::Status create(const Options& options, uint32_t& index, uint32_t& generation) {
  arena::Status status =
      object::claim((options.flags & kTasks) != 0 ? object::Kind::kTaskTable : object::Kind::kChannel, index);
  if (status != arena::Status::kOk) return status;
  Channel& c = *at(index);
  init(c.ring, index);
  c.maxsize = options.maxsize;
  c.byte_limit = options.byte_limit;
  c.flags = options.flags;
  c.partner = options.partner;
  if ((options.flags & kJoinable) != 0) {
    status = claim_segment(accounts_of(index), c.accounts);
    if (status != arena::Status::kOk) {
      object::release_for(index, process::mine());
      object::end_destroy(index);
      return status;
    }
    std::fill_n(accounts(c), 2 * kAccounts, 0u);
    static_assert(kFirstOffset + 2 * kAccounts * sizeof(uint32_t) <= arena::kSegmentBytes);
  }
  generation = object::publish(index);
  return arena::Status::kOk;
}

Result put_now(uint32_t index, const Message& message, sync::Wait& wait, int bell) {
  Channel& c = *at(index);
  PutState state{&c, &message, bell};
  PutHook hook;
  hook.state = &state;
  if ((c.maxsize | c.byte_limit) != 0) hook.may_put = may_put;
  if (bell >= 0) hook.before_commit = ring_bell;
  const Result r = put(c.ring, message, wait, hook, kRepairs);
  if (r == Result::kDone) sync::open_one(c.items);
  return r;
}

Result put(uint32_t index, const Message& message, sync::Wait& wait, int bell) {
  Result r = put_now(index, message, wait, bell);
  if (r != Result::kFull || wait.deadline == 0) return r;
  Channel& c = *at(index);
  wait.begin();
  const uint32_t full = length(c.ring);
  sync::spin([&] { return length(c.ring) < full; });
  sync::Sleeper sleeper;
  for (;;) {
    sync::announce(c.space, sleeper);
    r = put_now(index, message, wait, bell);
    if (r != Result::kFull) break;
    const sync::Slept slept = sync::sleep(c.space, sleeper, index, gate_offset(index, c.space), wait);
    if (slept == sync::Slept::kAgain) continue;
    r = slept == sync::Slept::kTimeout ? Result::kFull : Result::kInterrupted;
    break;
  }
  sync::leave(c.space, sleeper, c.byte_limit != 0 || length(c.ring) < c.maxsize);
  return r;
}

Result get_now(uint32_t index, Taken& out, sync::Wait& wait, int bell) {
  Channel& c = *at(index);
  if ((c.flags.load(std::memory_order_relaxed) & kJoinable) != 0) {
    put_one_down(c, process::mine());
    look_at_losses(c, wait);
  }
  return look(c, out, wait, bell);
}

Result get(uint32_t index, Taken& out, sync::Wait& wait, int bell) {
  Result r = get_now(index, out, wait, bell);
  if (r != Result::kEmpty || wait.deadline == 0) return r;
  Channel& c = *at(index);
  const uint32_t attention = out.heard != nullptr ? *out.heard : c.attention.load();
  const auto called = [&] { return c.attention.load() != attention || (c.flags.load() & kClosed) != 0; };
  wait.begin();
  if (sync::spin([&] { return !is_empty(c.ring) || called(); })) {
    r = look(c, out, wait, bell);
    if (r != Result::kEmpty) return r;
  }
  return sleep_for_items(index, wait, [&](Result& found) {
    found = look(c, out, wait, bell);
    return found != Result::kEmpty || called();
  });
}

Result await(uint32_t index, sync::Wait& wait, const bool* given_up) {
  Channel& c = *at(index);
  if (!is_empty(c.ring)) return Result::kDone;
  if (wait.deadline == 0) return Result::kEmpty;
  wait.begin();
  return sleep_for_items(index, wait, [&](Result& found) {
    found = is_empty(c.ring) ? Result::kEmpty : Result::kDone;
    return found == Result::kDone || (given_up != nullptr && __atomic_load_n(given_up, __ATOMIC_SEQ_CST));
  });
}

void rouse(uint32_t index) { sync::call_all(at(index)->items); }

bool arm(uint32_t index, uint32_t how, int bell, sync::Wait& wait) {
  Channel& c = *at(index);
  if (enter_tail(c.ring, wait, kRepairs) != Result::kDone) return false;
  c.armed.fetch_or(how);
  const bool empty = is_empty(c.ring);
  if (!empty && how == kArmedAlways && c.bell.load() != kRung) ring(c, bell);
  sync::unlock(c.ring.tail_mutex);
  return empty;
}

void silence(Channel& c, int bell) {
  sync::Wait forever;
  if (enter_tail(c.ring, forever, kRepairs) != Result::kDone) return;
  if (is_empty(c.ring)) {
    c.bell.store(kSilent);  // killed here, its repair says kUnsure
    uint64_t rung = 0;
    while (read(bell, &rung, sizeof rung) < 0 && errno == EINTR) {
    }
  }
  sync::unlock(c.ring.tail_mutex);
}

void close(uint32_t index) {
  Channel& c = *at(index);
  c.flags.fetch_or(kClosed);
  sync::call_all(c.items);
}

void wake(uint32_t index) {
  Channel& c = *at(index);
  c.attention.fetch_add(1);
  sync::call_all(c.items);
}

bool task_done(uint32_t index, sync::Wait& wait) {
  Channel& c = *at(index);
  while (enter_head(c.ring, wait, kRepairs) != Result::kDone) {
    if (wait.should_stop()) return false;
  }
  const uint32_t me = process::mine();
  const bool counts = unfinished(c) != 0;
  if (counts) {
    c.touching.store(me);
    c.done_total.fetch_add(1);
    accounts(c)[me].fetch_sub(1);
    limit_overdraft(c, me);
  } else {
    settle_with_others(c, me);
  }
  put_one_down(c, me);  // after that: killed before, it is still at it
  forgive_losses(c);
  const bool all = unfinished(c) == 0;
  sync::unlock(c.ring.head_mutex);
  if (all) sync::open_all(c.done);
  return counts;
}

Result join(uint32_t index, sync::Wait& wait) {
  Channel& c = *at(index);
  sync::Sleeper sleeper;
  Result r = Result::kDone;
  if (unfinished(c) == 0) return r;
  wait.begin();
  for (;;) {
    sync::announce(c.done, sleeper);
    if (unfinished(c) == 0) break;
    const sync::Slept slept = sync::sleep(c.done, sleeper, index, gate_offset(index, c.done), wait);
    if (slept == sync::Slept::kAgain) continue;
    r = slept == sync::Slept::kTimeout ? Result::kTimeout : Result::kInterrupted;
    break;
  }
  sync::leave(c.done, sleeper, false);
  return r;
}

void recover(uint32_t index, uint32_t dead_slot) {
  Channel* there = at(index);
  if (there == nullptr) return;
  Channel& c = *there;
  recover(c.ring, dead_slot, kRepairs);
  if ((c.flags.load() & kJoinable) == 0) return;
  if (balance_of(c, dead_slot) == 0 && in_hand(c)[dead_slot].load() == 0 && balance_of(c, kLost) == 0) return;
  sync::Wait forever;
  if (enter_head(c.ring, forever, kRepairs) != Result::kDone) return;
  close_account(c, dead_slot, lost_by(c, dead_slot));
  forgive_losses(c);
  const bool all = unfinished(c) == 0;
  sync::unlock(c.ring.head_mutex);
  if (all) sync::open_all(c.done);
}

void destroy(uint32_t index) {
  Channel* there = at(index);
  if (there == nullptr) return;  // no address space left to look at it; what it held stays until the tree ends
  Channel& c = *there;
  c.flags.fetch_and(~(kJoinable | kTasks));  // no accounts, no claims: what is left goes to nobody
  uint64_t me = accounts_of(index);
  segment_word(c.accounts).compare_exchange_strong(me, 0);
  clear(c.ring, kRepairs);
}

}  // namespace shoal::channel
