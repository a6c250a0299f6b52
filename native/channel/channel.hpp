// Floor 6: channels, the objects that queues, pipes and pools are made of: a ring, the gates where its users sleep, a bound, the accounts of a joinable
// queue, and the bell of a pipe.
#pragma once

#include "channel/ring.hpp"
#include "object/object.hpp"
#include "sync/company.hpp"

namespace shoal::channel {

constexpr uint32_t kJoinable = 1;
constexpr uint32_t kTasks = 2;   // a pool's tasks: a claim is noted in the claimer's slot
constexpr uint32_t kClosed = 4;  // get() on an empty ring ends at once

constexpr uint32_t kArmedOnce = 1;    // somebody sleeps in poll(): ring once
constexpr uint32_t kArmedAlways = 2;  // somebody has asked for the descriptor

constexpr uint32_t kSilent = 0;  // the bell has not been written to
constexpr uint32_t kRung = 1;    // it has, or is about to be
constexpr uint32_t kUnsure =
    2;  // a process was killed that may have rung or silenced it: who puts rings, who finds nothing silences

// The rest of a channel, beside its ring.
struct Channel {
  Ring ring;
  sync::Gate items;  // consumers sleep here
  sync::Gate space;  // producers of a bounded channel
  sync::Gate done;   // join()
  std::atomic<uint32_t> flags;
  std::atomic<uint32_t> armed;       // under tail_mutex
  std::atomic<uint32_t> bell;        // what the bell's descriptor says, under tail_mutex: kSilent, kRung, kUnsure
  std::atomic<uint32_t> attention;   // counts calls for those who wait in get(): wake() and deaths
  std::atomic<uint32_t> done_total;  // under head_mutex, as are the next two
  std::atomic<uint32_t> touching;    // whose account is being changed
  alignas(64) uint64_t maxsize;      // messages; 0: unbounded
  uint64_t byte_limit;               // bytes of messages under way; 0: unbounded
  std::atomic<uint64_t> bytes_put, bytes_taken;
  uint32_t accounts;                // a joinable queue's segment with two counts for each slot
  uint32_t partner;                 // a task table's channel for results
  std::atomic<uint32_t> closings;   // counts descriptors of a pipe that were closed: look at the socket
  std::atomic<uint32_t> listening;  // 1: the reader sleeps, or is about to (doorbell.hpp)
  sync::Side putter;                // of the conversation: who puts here (sync/company.hpp)
};
static_assert(sizeof(Channel) <= sizeof(object::Cell::body));

inline Channel* at(uint32_t index) { return object::body<Channel>(index); }

struct Options {
  uint64_t maxsize = 0;
  uint64_t byte_limit = 0;
  uint32_t flags = 0;
  uint32_t partner = 0;
};

arena::Status create(const Options& options, uint32_t& index, uint32_t& generation);

// Waits for room until wait.deadline (kFull) … or for a message (kEmpty). `bell`: the eventfd to ring or to silence, -1: none.
Result put(uint32_t index, const Message& message, sync::Wait& wait, int bell = -1);
Result get(uint32_t index, Taken& out, sync::Wait& wait, int bell = -1);
// Waits until there is a message, and leaves it there; kEmpty also if `given_up` has become true, once rouse() was called.
Result await(uint32_t index, sync::Wait& wait, const bool* given_up = nullptr);
void rouse(uint32_t index);  // who sleeps in await() or get() looks again at what it waits for
// One look, no waiting.
Result get_now(uint32_t index, Taken& out, sync::Wait& wait, int bell = -1);
Result put_now(uint32_t index, const Message& message, sync::Wait& wait, int bell = -1);

// Makes producers ring the bell. False: there is a message already, so there is nothing to sleep for.
bool arm(uint32_t index, uint32_t how, int bell, sync::Wait& wait);
void silence(Channel& c, int bell);

void close(uint32_t index);  // a task table's end: getters of an empty ring leave
void wake(uint32_t index);   // getters of an empty ring return (kEmpty)

// Joinable queues. task_done: false when called more often than there were messages.
bool task_done(uint32_t index, sync::Wait& wait);
Result join(uint32_t index, sync::Wait& wait);

// Recovery: what a dead process was doing with it, and what is left of it.
void recover(uint32_t index, uint32_t dead_slot);
void destroy(uint32_t index);

}  // namespace shoal::channel
