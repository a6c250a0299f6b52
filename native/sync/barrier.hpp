// Floor 4: Barrier, as users know it.
//
//   word: generation 32 | previous generation was broken 1 | acting 1 | broken 1 | parties that have arrived 24
//
// The last party to arrive ends the generation by one compare-and-swap. If there is an action, it first sets `acting`, the action runs in Python outside any
// section, and then the generation ends. Each party in a wait is a node that names its slot and its generation; one that dies breaks that generation.
//
// Between two waits nobody says that he will come again. But who has passed the last generation is one of those that the present one waits for, unless another has
// taken his place. So each process that passes sets its bit, and recovery notes that the present generation lacks one whose process has died, by
// being killed or with a nonzero exit code. Whoever waits in it breaks it half a second later, unless another may come instead: a process that has been
// started since the last one ended, or that holds the barrier and is not known to be a party.
#pragma once

#include "object/object.hpp"
#include "sync/gate.hpp"

namespace shoal::sync {

constexpr uint32_t kMostParties = (1u << 24) - 1;
constexpr uint32_t kRemembered = 16;

struct BarrierBody {
  std::atomic<uint64_t> word;  // the commit of arrivals, releases, aborts and resets
  uint32_t parties;            // constant
  uint32_t unused;
  Gate gate;
  std::atomic<uint32_t> lacking;   // the generation that lacks a party, which has died between two waits
  std::atomic<uint64_t> ended_at;  // ns: when the last generation ended
  // Which slots have passed generation g, at g % 2.
  std::atomic<uint64_t> passed[2][arena::kSlots / 64];
  // How generation g ended, for parties that come to look after the next one has ended, too: g << 1 | broken, at g % kRemembered.
  std::atomic<uint64_t> ends[kRemembered];
};

struct Party {
  uint32_t node = process::kNoNode;
  uint32_t generation = 0;
  uint32_t index = 0;  // order of arrival
};

enum class Passed { kPassed, kMustAct, kBroken, kInterrupted, kNoNode };

void init(BarrierBody& body, uint32_t parties);

// kMustAct: all have arrived and wait for this party to run the action and call finish().
Passed arrive(BarrierBody& body, uint32_t object, bool has_action, Party& party, Wait& wait);
// After the action; false: it raised, which breaks the barrier. kPassed or kBroken.
Passed finish(BarrierBody& body, Party& party, bool acted);

void abort(BarrierBody& body);
void reset(BarrierBody& body);
uint32_t count_waiting(const BarrierBody& body);
bool is_broken(const BarrierBody& body);

// Recovery: the dead party of this node breaks the generation in which it waits; if that has ended, it is missing in the next one. Frees the node. Idempotent.
void recover_party(uint32_t node);
// Recovery: of a process that is in no wait. Nobody misses who has left in order. Idempotent.
void recover_barrier(uint32_t object, uint32_t dead);

}  // namespace shoal::sync
