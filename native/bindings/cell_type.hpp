// Floor 8: a ctypes object with a lock: what the synchronised wrappers of shared ctypes have in common. Each operation on what is wrapped takes the lock, does
// its work and lets go, in one call.
//
// What is wrapped is any ctypes object. If its memory cannot move and it is a number, or an array of numbers, it is read and written here (`scalar`); in every
// other case, and for whatever is not an ordinary index or number, the ctypes object is asked, under the lock. The lock is anything that can be
// acquired; shoal's own are taken without a call of Python's.
#pragma once

#include "bindings/lock_types.hpp"
#include "bindings/scalars.hpp"

namespace shoal::bindings {

enum class LockKind {
  kNone,
  kNative,
  kWith,
  kBare
};  // kWith: has __enter__ and __exit__; kBare: acquire and release only

struct Cell {
  PyObject_HEAD PyObject* obj;
  PyObject* lock;
  const Scalar* scalar;  // nullptr: ask `obj`
  char* at;
  Py_ssize_t length;   // in numbers
  LockKind lock_kind;  // kNone: __init__ has not run
};

inline Cell* cell_of(PyObject* self) { return reinterpret_cast<Cell*>(self); }

// Both may run Python code, and waiting may end the thread: no frame above has a destructor.
bool enter_foreign_lock(Cell* c);
bool exit_foreign_lock(Cell* c);
bool check_bound(const Cell* c);  // false with an exception set: __init__ has not run

inline bool enter(Cell* c) { return c->lock_kind == LockKind::kNative ? enter_lock(c->lock) : enter_foreign_lock(c); }
inline bool leave(Cell* c) { return c->lock_kind == LockKind::kNative ? exit_lock(c->lock) : exit_foreign_lock(c); }
// Lets go of the lock and passes the result of what was done under it on. If that failed, its exception stands.
PyObject* leave_with(Cell* c, PyObject* result);

extern PyTypeObject* cell_type;
// The buffer, array and number types derive from it.
bool add_cell_type(PyObject* module);
bool add_array_cell_type(PyObject* module);
bool add_value_cell_type(PyObject* module);

}  // namespace shoal::bindings
