// Objects that a scenario makes in prepare() and lets go of in finish().
#pragma once

#include "channel/channel.hpp"
#include "recovery/lifetime.hpp"
#include "scenario.hpp"
#include "sync/barrier.hpp"
#include "sync/condition.hpp"
#include "sync/lock.hpp"
#include "sync/semaphore.hpp"

namespace shoal::exhaust {

template <class Body, class Fill>
uint32_t make_object(object::Kind kind, Fill fill) {
  uint32_t index = 0;
  CHECK(object::claim(kind, index) == arena::Status::kOk);
  fill(*object::body<Body>(index));
  object::publish(index);
  return index;
}

inline uint32_t make_lock(object::Kind kind = object::Kind::kLock) {
  return make_object<sync::LockBody>(kind, [](sync::LockBody& b) { sync::init(b, false); });
}
inline uint32_t make_semaphore(uint32_t value, uint32_t maximum) {
  return make_object<sync::SemaphoreBody>(object::Kind::kSemaphore,
                                          [=](sync::SemaphoreBody& b) { sync::init(b, value, maximum); });
}
inline uint32_t make_condition() {
  return make_object<sync::WaitersBody>(object::Kind::kCondition, [](sync::WaitersBody&) {});
}
// 10: it was notified; 11: not; 12: there was no node.
inline int wait_once(uint32_t condition) {
  sync::WaitersBody& body = *object::body<sync::WaitersBody>(condition);
  sync::Waiter waiter;
  sync::Wait wait;
  if (!sync::enter(body, condition, waiter)) return 12;
  const bool told = sync::sleep(waiter, wait) == sync::Waited::kYes;
  sync::leave(body, condition, waiter, told);
  return told ? 10 : 11;
}
inline uint32_t make_barrier(uint32_t parties) {
  return make_object<sync::BarrierBody>(object::Kind::kBarrier, [=](sync::BarrierBody& b) { sync::init(b, parties); });
}
// The action, if it is this party that is to run it, does nothing.
inline sync::Passed arrive_at(uint32_t barrier, bool with_action) {
  sync::BarrierBody& body = *object::body<sync::BarrierBody>(barrier);
  sync::Party party;
  sync::Wait wait;
  const sync::Passed how = sync::arrive(body, barrier, with_action, party, wait);
  return how == sync::Passed::kMustAct ? sync::finish(body, party, true) : how;
}
inline uint32_t make_channel(const channel::Options& options) {
  uint32_t index = 0, generation = 0;
  CHECK(channel::create(options, index, generation) == arena::Status::kOk);
  return index;
}

}  // namespace shoal::exhaust
