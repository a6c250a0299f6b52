#include "sync/gate.hpp"

#include <algorithm>

namespace shoal::sync {

namespace {
// Without a node recovery cannot find the sleeper, so it looks by itself now and then.
constexpr uint64_t kSliceWithoutNode = 200'000'000;

constexpr uint32_t kFullEvery = 16, kFullEveryMost = 256;
thread_local Patience patience_;
// A signal between the look at signals and the sleep does not end the sleep: about one Ctrl-C in 3,000 came there. So where signals matter, sleeps are
// bounded: 20 ms at first, when one is likely to have just come, then doubling up to this.
constexpr uint64_t kLongestSlice = 1'000'000'000;
}  // namespace

Slept sleep(Gate& gate, Sleeper& sleeper, uint32_t object, uint64_t gate_offset, Wait& wait) {
  if (wait.expired()) return Slept::kTimeout;
  wait.begin();
  uint64_t deadline = wait.deadline;
  if (sleeper.node == process::kNoNode) {
    sleeper.node = process::claim_node(process::NodeKind::kSleeper, object);
    if (sleeper.node != process::kNoNode) {
      // Recovery may have looked for sleepers between the last look at the condition and this store: look once more.
      process::node(sleeper.node).futex.store(gate_offset | process::kCounted);
      return Slept::kAgain;
    }
    deadline = std::min(deadline, os::now() + kSliceWithoutNode);
  }
  // A signal that came during the spin or since the caller last looked would otherwise wait for the sleep to end.
  if (wait.should_stop()) return Slept::kInterrupted;
  if (wait.interrupted != nullptr && !wait.idle) {
    deadline = std::min(deadline, os::now() + sleeper.slice);
    sleeper.slice = std::min(sleeper.slice * 2, kLongestSlice);
  }
  const os::Wake woken = os::futex_wait(gate.sequence, sleeper.seen, deadline);
  sleeper.slept = true;
  if (woken == os::Wake::kSignal && wait.should_stop()) return Slept::kInterrupted;
  if (woken == os::Wake::kTimeout && wait.expired()) return Slept::kTimeout;
  return Slept::kAgain;
}

void leave(Gate& gate, Sleeper& sleeper, bool more) {
  if (sleeper.slept) {
    gate.announced.store(1);  // others may sleep behind this one
    if (more) open_one(gate);
  }
  if (sleeper.node != process::kNoNode) process::free_node(sleeper.node);
  sleeper.node = process::kNoNode;
}

int take_permit() {
  const auto permits = static_cast<int>(std::min(arena::header().cores - 1, arena::kPermits));
  for (int i = 0; i < permits; ++i) {
    uint32_t nobody = 0;
    std::atomic<uint32_t>& permit = arena::header().permits[i];
    if (permit.load(std::memory_order_relaxed) == 0 && permit.compare_exchange_strong(nobody, process::mine() + 1))
      return i;
  }
  return -1;
}

void give_permit(int permit) { arena::header().permits[permit].store(0, std::memory_order_release); }

uint64_t patience(uint64_t limit, bool& in_full) {
  Patience& p = patience_;
  in_full = p.vain == kMostHalvings && p.until_full <= 1;
  if (p.vain == kMostHalvings && !in_full) --p.until_full;
  return in_full ? limit : limit >> p.vain;
}

void learn(bool in_vain, bool in_full) {
  Patience& p = patience_;
  if (!in_vain) {
    p.vain = in_full || p.vain < 2 ? 0 : p.vain - 2;
  } else if (in_full) {
    p.full_every = std::min(p.full_every * 4, kFullEveryMost);
    p.until_full = p.full_every;
  } else if (p.vain < kMostHalvings && ++p.vain == kMostHalvings) {
    p.until_full = p.full_every = kFullEvery;
  }
}

}  // namespace shoal::sync
