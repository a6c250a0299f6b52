// Floor 4: the waiters of a Condition; its lock is an object of its own.
//
// A waiter is a node with a ticket. Notifying one is a compare-and-swap on its state, so each notification reaches exactly one waiter that is still
// waiting, and a waiter that leaves (timeout, interrupt) takes itself back by the same swap. Nobody ever waits for an acknowledgement.
//
//   enter(); let go of the lock; sleep(); take the lock back; leave()
//
// The node stays until the lock is back, so that a notification of a waiter that is killed before that is known, and goes to the next one.
#pragma once

#include "object/object.hpp"
#include "sync/event.hpp"

namespace shoal::sync {

constexpr uint32_t kWaiterPlaces = 64;

struct WaitersBody {
  std::atomic<uint64_t> tickets;  // counts arrivals
  std::atomic<uint32_t>
      crowded;  // counts those who found no place, since nobody waited: if not 0, the table of nodes is searched
  std::atomic<uint32_t> highest;  // places in use end here: a hint that only grows
  // Where to look for waiters: node + 1, and some bits of its ticket; 0: free. What counts is the node; a dead waiter's place is cleared by the
  // next who looks.
  std::atomic<uint32_t> places[kWaiterPlaces];
};

struct Waiter {
  uint32_t node = process::kNoNode;
  uint32_t waiting = 0;  // its state while it waits
  uint32_t place = kWaiterPlaces;
  uint32_t mark = 0;  // what the place says
};

// False: there is no node to be had. From here on a notification counts.
bool enter(WaitersBody& body, uint32_t object, Waiter& waiter);
Waited sleep(const Waiter& waiter, Wait& wait);
// Frees the waiter. Not `heeded`: if it was notified nevertheless, the notification is for somebody else.
void leave(WaitersBody& body, uint32_t object, Waiter& waiter, bool heeded);

// Notifies the `most` oldest waiters whose process lives; returns how many there were.
constexpr uint32_t kEverybody = UINT32_MAX;
uint32_t notify(WaitersBody& body, uint32_t object, uint32_t most);
uint32_t count_waiters(WaitersBody& body, uint32_t object);

// A waiter's node, all that a dead process leaves. Idempotent, but that a notification passed on may be passed on again.
void recover_waiter(uint32_t node);

}  // namespace shoal::sync
