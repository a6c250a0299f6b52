// Floor 8: what all binding files share: Python's header, errors, and waiting without the GIL.
//
// Whatever may sleep is a plain C function: PyEval_RestoreThread ends a daemon thread at interpreter exit (pthread_exit), and a destructor or noexcept frame
// on the way would abort the process. So there are no RAII objects in frames that wait.
#pragma once

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "arena/arena.hpp"
#include "sync/wait.hpp"

namespace shoal::bindings {

// Waiting. begin_wait() reads Python's (block, timeout in seconds or None); false with an exception set when timeout is no number. Any native call may
// let go of the GIL through `wait`; end_wait() takes it back, and must be called before anything of Python's is touched.
struct GilWait {
  sync::Wait wait;
  PyThreadState* thread = nullptr;
};
bool begin_wait(GilWait& gil, bool block, PyObject* timeout);
void begin_wait_for_ever(GilWait& gil);
inline void end_wait(GilWait& gil) {
  if (gil.thread == nullptr) return;
  PyThreadState* thread = gil.thread;
  gil.thread = nullptr;
  PyEval_RestoreThread(thread);
}

// For those who sleep in a system call of their own: how long at most, in milliseconds; -1: without end, 0: the deadline has come. A signal that comes between
// the interpreter's last look and the call does not end the sleep, so where signals matter none is longer than a second.
int next_sleep(const GilWait& gil, uint64_t deadline);

// Exceptions.
PyObject* raise_status(arena::Status status);  // MemoryError with the sizes in it, or OSError
PyObject* raise_from(const char* module, const char* name, const char* text);  // e.g. queue.Empty
PyObject* imported(const char* module,
                   const char* name);  // a borrowed, cached attribute of a module; nullptr with an exception set

// Once per process, when it has an arena.
void watch_forks();
// Changes in a forked child: whoever has called foreign code sees by it that this is another process than before.
extern uint32_t forks;
// Makes this process part of an arena if it is not yet.
bool ensure_attached();

}  // namespace shoal::bindings
