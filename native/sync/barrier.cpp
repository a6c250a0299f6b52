#include "sync/barrier.hpp"

#include <algorithm>

namespace shoal::sync {

namespace {

struct Phase {
  uint64_t raw;
  uint32_t generation() const { return static_cast<uint32_t>(raw >> 32); }
  bool previous_broken() const { return (raw & kPreviousBroken) != 0; }
  bool acting() const { return (raw & kActing) != 0; }
  bool broken() const { return (raw & kBroken) != 0; }
  uint32_t count() const { return static_cast<uint32_t>(raw) & kMostParties; }
  Phase next(bool broken) const {
    return {static_cast<uint64_t>(generation() + 1) << 32 | (broken ? kPreviousBroken : 0)};
  }
  static constexpr uint64_t kPreviousBroken = 1ull << 26, kActing = 1ull << 25, kBroken = 1ull << 24;
};

// ns: between two looks whether there is one who may come in the place of a dead party, and until the first, for whoever sees to that to start one.
constexpr uint64_t kLook = 500'000'000;

// node.state of a party whose ticket says which generation it is in. No waiter of a condition ever has this state.
constexpr uint32_t kIn = 3;

Phase load(const BarrierBody& body) { return {body.word.load()}; }

// Ends the generation of `seen`. What is remembered of the one before is written first, so that the ends are complete up to there.
bool end(BarrierBody& body, Phase seen, bool broken) {
  const uint32_t before = seen.generation() - 1;
  body.ended_at.store(os::now(), std::memory_order_relaxed);  // these are published by the swap that ends it
  for (auto& bits : body.passed[seen.generation() % 2])
    bits.store(0, std::memory_order_relaxed);  // of the one before the last
  std::atomic<uint64_t>& place = body.ends[before % kRemembered];
  uint64_t known = place.load();
  while (static_cast<int32_t>(before - static_cast<uint32_t>(known >> 1)) > 0 &&
         !place.compare_exchange_weak(known, static_cast<uint64_t>(before) << 1 | (seen.previous_broken() ? 1 : 0))) {
  }
  return body.word.compare_exchange_strong(seen.raw, seen.next(broken).raw);
}

bool has_ended(const BarrierBody& body, uint32_t generation) {
  const Phase now = load(body);
  return now.generation() != generation || now.broken();
}

Passed how_it_ended(const BarrierBody& body, uint32_t generation) {
  const Phase now = load(body);
  bool broken = now.broken();
  if (now.generation() == generation + 1) {
    broken = now.previous_broken();
  } else if (now.generation() != generation) {
    const uint64_t known = body.ends[generation % kRemembered].load();
    broken = known == (static_cast<uint64_t>(generation) << 1 |
                       1);  // forgotten after kRemembered more: then it passed, most likely
  }
  return broken ? Passed::kBroken : Passed::kPassed;
}

// Breaks this generation unless it is over. `even_acting`: also when all have arrived and the action is running.
bool break_it(BarrierBody& body, uint32_t generation, bool even_acting) {
  Phase seen = load(body);
  while (seen.generation() == generation && !seen.broken() && (even_acting || !seen.acting())) {
    if (body.word.compare_exchange_weak(seen.raw, seen.raw | Phase::kBroken)) {
      open_all(body.gate);
      return true;
    }
  }
  return false;
}

// One that has passed this generation, not a broken one, will be missing in the next, if that is the present one.
void miss_in_next(BarrierBody& body, uint32_t generation) {
  const Phase now = load(body);
  if (now.generation() != generation + 1 || now.previous_broken()) return;
  body.lacking = now.generation();
  open_all(body.gate);
}

using Slots = uint64_t[arena::kSlots / 64];
void put(Slots& set, uint32_t slot) { set[slot / 64] |= 1ull << slot % 64; }

// Those who sleep at this generation themselves.
void put_waiting(Slots& set, uint32_t object, uint32_t generation) {
  const uint64_t ticket = static_cast<uint64_t>(object::load(object).generation()) << 32 | generation;
  const uint32_t end = arena::grown(arena::kNodeTable);
  for (uint32_t i = 0; i < end; ++i) {
    process::Node& n = process::node(i);
    const uint32_t owner = n.owner.load();
    if (owner != 0 && n.object.load() == object + 1 && n.ticket.load() == ticket && n.state.load() == kIn &&
        n.kind.load() == static_cast<uint32_t>(process::NodeKind::kParty))
      put(set, owner - 1);
  }
}

// Those who have started the others, and have the barrier because they made it.
void put_ancestors(Slots& set) {
  process::Token life = process::token_of(process::mine());
  for (uint32_t i = 0; i < arena::kSlots; ++i) {
    life = process::slot(process::slot_of(life)).parent.load();
    if (life == 0 || process::is_gone(life)) return;
    put(set, process::slot_of(life));
  }
}

// Is there one that may come in the place of a dead party? It was started since the last generation ended, or is being started; or it has this barrier, and is
// none of those who passed that generation, or wait, or have started the caller.
bool another_may_come(BarrierBody& body, uint32_t object, uint32_t generation) {
  Slots others{};  // who is none such
  for (uint32_t k = 0; k < arena::kSlots / 64; ++k) others[k] = body.passed[(generation - 1) % 2][k].load();
  put_waiting(others, object, generation);
  put_ancestors(others);
  const uint64_t ended_at = body.ended_at.load();
  for (uint32_t i = 0; i < arena::kSlots; ++i) {
    const process::Slot& s = process::slot(i);
    const process::State state = process::state_of(s.word.load());
    if (state == process::State::kReserved) return true;
    if (state != process::State::kLive) continue;
    if (s.reserved_at.load() > ended_at) return true;
    if ((others[i / 64] >> i % 64 & 1) == 0 && object::may_be_held_by(object, i)) return true;
  }
  return false;
}

// An interrupted party has not arrived, unless all have.
void take_back(BarrierBody& body, uint32_t generation) {
  Phase seen = load(body);
  while (seen.generation() == generation && !seen.broken() && !seen.acting() &&
         !body.word.compare_exchange_weak(seen.raw, seen.raw - 1)) {
  }
}

// Sleeps until the generation is over; kInterrupted, or how it ended. `arrived`: it counts, so its deadline breaks the barrier.
Passed wait_for_end(BarrierBody& body, uint32_t object, uint32_t generation, bool arrived, Wait& wait) {
  const auto over = [&] { return has_ended(body, generation); };
  if (!wait.expired()) {
    wait.begin();
    if (spin(over)) return how_it_ended(body, generation);
  }
  Sleeper sleeper;
  bool interrupted = false;
  uint64_t look_at = 0;
  for (;;) {
    announce(body.gate, sleeper);
    if (over()) break;
    const uint64_t deadline = wait.deadline;
    if (arrived && body.lacking.load() == generation) {
      const uint64_t now = os::now();
      if (look_at != 0 && now >= look_at && !another_may_come(body, object, generation) &&
          break_it(body, generation, false))
        continue;
      if (now >= look_at) look_at = now + kLook;
      wait.deadline = std::min(deadline, look_at);
    }
    const Slept slept = sleep(body.gate, sleeper, object, object::offset_of(object, &body.gate), wait);
    if (const bool early = wait.deadline != deadline; early) {
      wait.deadline = deadline;
      if (slept == Slept::kTimeout) continue;
    }
    if (slept == Slept::kInterrupted) {
      interrupted = true;
      break;
    }
    // Once all have arrived they are not late any more, whatever the action takes.
    if (slept == Slept::kTimeout && (!arrived || !break_it(body, generation, false))) wait.deadline = os::kNever;
  }
  leave(body.gate, sleeper, false);
  if (!interrupted) return how_it_ended(body, generation);
  if (arrived) take_back(body, generation);
  return Passed::kInterrupted;
}

void note_passed(BarrierBody& body, uint32_t generation) {
  const uint32_t slot = process::mine();
  body.passed[generation % 2][slot / 64].fetch_or(1ull << slot % 64);
}

void free_party(Party& party) {
  if (party.node != process::kNoNode) process::free_node(party.node);
  party.node = process::kNoNode;
}

}  // namespace

void init(BarrierBody& body, uint32_t parties) {
  body.parties = parties;
  body.word = Phase{1ull << 32}.raw;  // so that no generation is 0, as what is remembered of none looks
}

Passed arrive(BarrierBody& body, uint32_t object, bool has_action, Party& party, Wait& wait) {
  party.node = process::claim_node(process::NodeKind::kParty, object);
  if (party.node == process::kNoNode) return Passed::kNoNode;
  process::Node& n = process::node(party.node);
  Passed result = Passed::kBroken;
  for (;;) {
    Phase seen = load(body);
    if (seen.broken()) break;
    party.generation = seen.generation();
    if (seen.acting()) {  // one more than there are parties: for the next generation
      const uint64_t deadline = wait.deadline;
      wait.deadline = os::kNever;
      n.state.store(0);
      if (wait_for_end(body, object, party.generation, false, wait) == Passed::kInterrupted) {
        result = Passed::kInterrupted;
        break;
      }
      wait.deadline = deadline;
      continue;
    }
    // Before it counts: a party that is killed on the way breaks the barrier, for it will not come again.
    n.ticket.store(static_cast<uint64_t>(object::load(object).generation()) << 32 | party.generation);
    n.state.store(kIn);
    party.index = seen.count();
    if (party.index + 1 < body.parties) {
      if (!body.word.compare_exchange_strong(seen.raw, seen.raw + 1)) continue;
      result = wait_for_end(body, object, party.generation, true, wait);
      if (result == Passed::kPassed) note_passed(body, party.generation);
    } else if (has_action) {
      if (!body.word.compare_exchange_strong(seen.raw, (seen.raw + 1) | Phase::kActing)) continue;
      return Passed::kMustAct;
    } else {
      if (!end(body, seen, false)) continue;
      open_all(body.gate);
      note_passed(body, party.generation);
      result = Passed::kPassed;
    }
    break;
  }
  free_party(party);
  return result;
}

Passed finish(BarrierBody& body, Party& party, bool acted) {
  if (!acted) break_it(body, party.generation, true);
  for (Phase seen = load(body); seen.generation() == party.generation && !seen.broken(); seen = load(body)) {
    if (!end(body, seen, false)) continue;
    open_all(body.gate);
    break;
  }
  const Passed result = how_it_ended(body, party.generation);
  if (result == Passed::kPassed) note_passed(body, party.generation);
  free_party(party);
  return result;
}

void abort(BarrierBody& body) {
  if ((body.word.fetch_or(Phase::kBroken) & Phase::kBroken) == 0) open_all(body.gate);
}

void reset(BarrierBody& body) {
  for (Phase seen = load(body); seen.count() != 0 || seen.broken() || body.lacking.load() == seen.generation();
       seen = load(body)) {
    if (seen.acting() && !seen.broken()) return;  // all have come: it is about to be like new, for those who come next
    if (!end(body, seen, true)) continue;
    open_all(body.gate);
    return;
  }
}

uint32_t count_waiting(const BarrierBody& body) {
  const Phase now = load(body);
  return now.broken() ? 0 : now.count();
}

bool is_broken(const BarrierBody& body) { return load(body).broken(); }

void recover_party(uint32_t node) {
  process::Node& n = process::node(node);
  const uint32_t object = n.object.load() - 1;
  if (object != UINT32_MAX && n.state.load() == kIn && object::load(object).kind() == object::Kind::kBarrier &&
      object::load(object).generation() == n.ticket.load() >> 32) {
    if (auto* body = object::body<BarrierBody>(object); body != nullptr) {
      const auto generation = static_cast<uint32_t>(n.ticket.load());
      break_it(*body, generation, true);
      miss_in_next(*body, generation);  // the others may have ended it before the death was noticed
    }
  }
  process::free_node(node);
}

void recover_barrier(uint32_t object, uint32_t dead) {
  auto* body = object::body<BarrierBody>(object);
  if (body == nullptr) return;
  const uint32_t last = load(*body).generation() - 1;
  const uint64_t its = 1ull << dead % 64;
  const bool missed = (body->passed[last % 2][dead / 64].load() & its) != 0;
  if (missed && !process::left_in_order(dead)) miss_in_next(*body, last);
  for (auto& bits : body->passed) bits[dead / 64].fetch_and(~its);  // the slot's next process has passed nothing
}

}  // namespace shoal::sync
