// Floor 8: LockBase and RLockBase for those who build on them (a Condition lets go of its lock and takes it again).
#pragma once

#include "bindings/sync_types.hpp"
#include "sync/lock.hpp"

namespace shoal::bindings {

extern PyTypeObject* lock_type;
extern PyTypeObject* rlock_type;

inline bool is_native_lock(PyObject* lock) {
  return lock != nullptr && (PyObject_TypeCheck(lock, lock_type) || PyObject_TypeCheck(lock, rlock_type));
}
// For a native operation under a lock: taking it as its `with` does, and letting go of it. False with an exception set, and the lock not held. Waiting may end
// the thread.
bool enter_lock(PyObject* lock);
bool exit_lock(PyObject* lock);
// How often this thread holds it (a Lock: 0 or 1). -1 with an exception set.
int64_t held_by_me(PyObject* lock);
// Lets go of it altogether, and takes it again as often. The latter goes on after a first signal whose handler raises, whose exception is set in the end, as is that
// of a lock that was taken over from a killed holder; false with an exception set after a second signal: then the lock is not held.
void release_all(PyObject* lock);
bool acquire_back(PyObject* lock, int64_t count);

}  // namespace shoal::bindings
