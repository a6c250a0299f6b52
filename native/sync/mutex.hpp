// Floor 4: the internal mutex, for sections of under a microsecond: glibc's robust, process-shared mutex in type-stable memory.
//
// It is taken with trylock, then by a short spin, then in timed slices that let the caller look at signals and its deadline: with the holder stopped, a
// plain lock ignored five SIGINTs. Python is never called while one is held.
#pragma once

#include <pthread.h>

#include "sync/wait.hpp"

namespace shoal::sync {

struct Mutex {
  pthread_mutex_t native;
};

enum class Lock { kTaken, kTakenFromDead, kInterrupted, kTimeout };

void init(Mutex& mutex);
// kTakenFromDead: the caller repairs what the mutex guards, then calls repaired().
Lock lock(Mutex& mutex, Wait& wait);
// At once or not at all (kTimeout).
Lock try_lock(Mutex& mutex);
// For recovery: only if its holder is dead.
bool lock_if_holder_is_dead(Mutex& mutex);
void repaired(Mutex& mutex);
void unlock(Mutex& mutex);

}  // namespace shoal::sync
