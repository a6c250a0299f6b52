// Floor 8: Lock and RLock.
#include "bindings/lock_types.hpp"

#include <cstring>

namespace shoal::bindings {

PyTypeObject* lock_type = nullptr;
PyTypeObject* rlock_type = nullptr;

namespace {

using sync::Acquired;
using sync::LockBody;

bool is_recursive(PyObject* self) { return reinterpret_cast<Handle*>(self)->kind == object::Kind::kRLock; }

LockBody* body(PyObject* self) { return body_of<LockBody>(self); }

template <object::Kind kKind>
int lock_init(PyObject* self, PyObject* args, PyObject* kwargs) {
  static const char* names[] = {"on_abandoned", nullptr};
  const char* on_abandoned = "warn";
  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|$s", const_cast<char**>(names), &on_abandoned)) return -1;
  const bool raises = std::strcmp(on_abandoned, "raise") == 0;
  if (!raises && std::strcmp(on_abandoned, "warn") != 0) {
    PyErr_Format(PyExc_ValueError, "on_abandoned must be 'warn' or 'raise', not '%s'", on_abandoned);
    return -1;
  }
  return make_object<LockBody>(self, kKind, [&](LockBody& b) { sync::init(b, raises); });
}

void let_go_once(PyObject* self, LockBody& b) {
  if (is_recursive(self))
    sync::release_once(b);
  else
    sync::release(b);
}

thread_local bool quiet_ = false;  // whether to say nothing of locks that are taken over

// The lock was taken over from a killed holder. False with an exception set: a warning may be an error, too.
bool tell_abandoned(const LockBody& b) {
  static const char text[] =
      "the process that held this lock was killed, or ended without releasing it: what the lock protects may be half "
      "changed";
  if (b.raises != 0) {
    raise_from("shoal.errors", "AbandonedLockError", text);
  } else if (quiet_) {
    return true;
  } else {
    PyObject* category = imported("shoal.errors", "AbandonedLockWarning");
    if (category != nullptr && PyErr_WarnEx(category, text, 1) == 0) return true;
  }
  return false;
}

// What was on its way is the context of the exception that is set now. Takes the references.
void chain(PyObject* type, PyObject* value, PyObject* traceback) {
  if (type == nullptr) return;
  PyErr_NormalizeException(&type, &value, &traceback);
  if (traceback != nullptr) PyException_SetTraceback(value, traceback);
  Py_DECREF(type);
  Py_XDECREF(traceback);
  PyObject *new_type = nullptr, *new_value = nullptr, *new_traceback = nullptr;
  PyErr_Fetch(&new_type, &new_value, &new_traceback);
  PyErr_NormalizeException(&new_type, &new_value, &new_traceback);
  PyException_SetContext(new_value, value);
  PyErr_Restore(new_type, new_value, new_traceback);
}

PyObject* finish_acquire(PyObject* self, LockBody& b, GilWait& gil, Acquired how) {
  end_wait(gil);
  switch (how) {
    case Acquired::kYes:
      Py_RETURN_TRUE;
    case Acquired::kAbandoned:
      if (tell_abandoned(b)) Py_RETURN_TRUE;
      let_go_once(self, b);  // the exception leaves a with statement before its body
      break;
    case Acquired::kTimeout:
      Py_RETURN_FALSE;
    case Acquired::kInterrupted:
      break;
  }
  return nullptr;
}

PyObject* lock_wait(PyObject* self, LockBody& b, bool block, PyObject* timeout) {
  GilWait gil;
  if (!start_wait(gil, block, timeout)) return nullptr;
  const Acquired how = sync::acquire_contended(b, reinterpret_cast<Handle*>(self)->index, gil.wait);
  return finish_acquire(self, b, gil, how);
}

PyObject* rlock_wait(PyObject* self, LockBody& b, bool block, PyObject* timeout) {
  GilWait gil;
  if (!start_wait(gil, block, timeout)) return nullptr;
  const Acquired how = sync::acquire_again_contended(b, reinterpret_cast<Handle*>(self)->index, gil.wait);
  return finish_acquire(self, b, gil, how);
}

PyObject* lock_acquire(PyObject* self, PyObject* const* args, Py_ssize_t count, PyObject* names) {
  bool block = true;
  PyObject* timeout = nullptr;
  if ((count != 0 || names != nullptr) && !read_arguments("acquire", args, count, names, &block, &timeout))
    return nullptr;
  LockBody* b = body(self);
  if (b == nullptr) return nullptr;
  if (sync::try_acquire(*b)) Py_RETURN_TRUE;
  return lock_wait(self, *b, block, timeout);
}

PyObject* rlock_acquire(PyObject* self, PyObject* const* args, Py_ssize_t count, PyObject* names) {
  bool block = true;
  PyObject* timeout = nullptr;
  if ((count != 0 || names != nullptr) && !read_arguments("acquire", args, count, names, &block, &timeout))
    return nullptr;
  LockBody* b = body(self);
  if (b == nullptr) return nullptr;
  if (sync::try_acquire_again(*b)) Py_RETURN_TRUE;
  return rlock_wait(self, *b, block, timeout);
}

PyObject* lock_enter(PyObject* self, PyObject*) {
  LockBody* b = body(self);
  if (b == nullptr) return nullptr;
  if (sync::try_acquire(*b)) Py_RETURN_TRUE;
  return lock_wait(self, *b, true, nullptr);
}

PyObject* rlock_enter(PyObject* self, PyObject*) {
  LockBody* b = body(self);
  if (b == nullptr) return nullptr;
  if (sync::try_acquire_again(*b)) Py_RETURN_TRUE;
  return rlock_wait(self, *b, true, nullptr);
}

PyObject* lock_release(PyObject* self, PyObject*) {
  LockBody* b = body(self);
  if (b == nullptr) return nullptr;
  if (sync::release(*b)) Py_RETURN_NONE;
  PyErr_SetString(PyExc_ValueError, "semaphore or lock released too many times");
  return nullptr;
}

PyObject* rlock_release(PyObject* self, PyObject*) {
  LockBody* b = body(self);
  if (b == nullptr) return nullptr;
  if (sync::release_once(*b)) Py_RETURN_NONE;
  PyErr_SetString(PyExc_AssertionError, "attempt to release recursive lock not owned by thread");
  return nullptr;
}

PyObject* lock_exit(PyObject* self, PyObject* const*, Py_ssize_t) { return lock_release(self, nullptr); }
PyObject* rlock_exit(PyObject* self, PyObject* const*, Py_ssize_t) { return rlock_release(self, nullptr); }

PyObject* lock_locked(PyObject* self, PyObject*) {
  LockBody* b = body(self);
  return b == nullptr ? nullptr : PyBool_FromLong(sync::is_locked(*b));
}

PyObject* lock_value(PyObject* self, PyObject*) {
  LockBody* b = body(self);
  return b == nullptr ? nullptr : PyLong_FromLong(sync::is_locked(*b) ? 0 : 1);
}

PyObject* lock_is_mine(PyObject* self, PyObject*) {
  const int64_t count = held_by_me(self);
  return count < 0 ? nullptr : PyBool_FromLong(count != 0);
}

// As the standard one's: how often this process holds it, so not 0 when another of its threads does.
PyObject* lock_count(PyObject* self, PyObject*) {
  LockBody* b = body(self);
  if (b == nullptr) return nullptr;
  return PyLong_FromLong(!sync::is_held_here(*b) ? 0 : is_recursive(self) ? static_cast<long>(b->count) : 1);
}

#define SHOAL_LOCK_METHODS(prefix)                                                                               \
  {"acquire", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(prefix##_acquire)),                     \
   METH_FASTCALL | METH_KEYWORDS,                                                                                \
   "acquire($self, /, block=True, timeout=None)\n--\n\nTake the lock. ``timeout`` is in seconds; false when it " \
   "passed."},                                                                                                   \
      {"release", prefix##_release, METH_NOARGS, "release($self, /)\n--\n\nLet go of the lock."},                \
      {"__enter__", prefix##_enter, METH_NOARGS, "__enter__($self, /)\n--\n\nTake the lock."},                   \
      {"__exit__", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(prefix##_exit)), METH_FASTCALL,    \
       "__exit__($self, /, *args)\n--\n\nLet go of the lock."},                                                  \
      {"locked", lock_locked, METH_NOARGS, "locked($self, /)\n--\n\nWhether anybody holds the lock."},           \
      {"_get_value", lock_value, METH_NOARGS, nullptr}, {"_is_zero", lock_locked, METH_NOARGS, nullptr},         \
      {"_is_mine", lock_is_mine, METH_NOARGS, nullptr}, {"_count", lock_count, METH_NOARGS, nullptr}, {          \
    nullptr, nullptr, 0, nullptr                                                                                 \
  }

PyMethodDef lock_methods[] = {SHOAL_LOCK_METHODS(lock)};
PyMethodDef rlock_methods[] = {SHOAL_LOCK_METHODS(rlock)};
#undef SHOAL_LOCK_METHODS

PyObject* take_over_quietly(PyObject*, PyObject* value) {
  const int quiet = PyObject_IsTrue(value);
  if (quiet < 0) return nullptr;
  const bool before = quiet_;
  quiet_ = quiet != 0;
  return PyBool_FromLong(before);
}
PyMethodDef functions[] = {
    {"take_over_quietly", take_over_quietly, METH_O,
     "Whether this thread is not to be warned of locks that it takes over; returns what was so before."},
    {nullptr, nullptr, 0, nullptr}};

PyType_Slot lock_slots[] = {{Py_tp_init, reinterpret_cast<void*>(lock_init<object::Kind::kLock>)},
                            {Py_tp_methods, lock_methods},
                            {Py_tp_doc, const_cast<char*>("A lock between processes; names its owner.")},
                            {0, nullptr}};
PyType_Slot rlock_slots[] = {{Py_tp_init, reinterpret_cast<void*>(lock_init<object::Kind::kRLock>)},
                             {Py_tp_methods, rlock_methods},
                             {Py_tp_doc, const_cast<char*>("A lock between processes that its owner may take again.")},
                             {0, nullptr}};
constexpr unsigned kFlags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE;
PyType_Spec lock_spec = {"shoal._native.LockBase", sizeof(Handle), 0, kFlags, lock_slots};
PyType_Spec rlock_spec = {"shoal._native.RLockBase", sizeof(Handle), 0, kFlags, rlock_slots};

}  // namespace

bool enter_lock(PyObject* lock) {
  PyObject* outcome = is_recursive(lock) ? rlock_enter(lock, nullptr) : lock_enter(lock, nullptr);
  Py_XDECREF(outcome);
  return outcome != nullptr;
}

bool exit_lock(PyObject* lock) {
  PyObject* outcome = is_recursive(lock) ? rlock_release(lock, nullptr) : lock_release(lock, nullptr);
  Py_XDECREF(outcome);
  return outcome != nullptr;
}

int64_t held_by_me(PyObject* lock) {
  LockBody* b = body(lock);
  if (b == nullptr) return -1;
  if (!sync::is_mine(*b)) return 0;
  return is_recursive(lock) ? b->count : 1;
}

void release_all(PyObject* lock) {
  LockBody& b = *static_cast<LockBody*>(reinterpret_cast<Handle*>(lock)->body);
  if (is_recursive(lock)) b.count = 1;
  let_go_once(lock, b);
}

bool acquire_back(PyObject* lock, int64_t count) {
  LockBody& b = *static_cast<LockBody*>(reinterpret_cast<Handle*>(lock)->body);
  PyObject *type = nullptr, *value = nullptr, *traceback = nullptr;
  PyErr_Fetch(&type, &value, &traceback);
  Acquired how = sync::try_acquire(b) ? Acquired::kYes : Acquired::kInterrupted;
  while (how == Acquired::kInterrupted) {
    GilWait gil;
    begin_wait_for_ever(gil);
    how = sync::acquire(b, reinterpret_cast<Handle*>(lock)->index, gil.wait);
    end_wait(gil);
    if (how != Acquired::kInterrupted) break;
    if (type != nullptr) {  // the second one: whoever presses Ctrl-C again wants to get out
      Py_DECREF(type);
      Py_XDECREF(value);
      Py_XDECREF(traceback);
      return false;
    }
    PyErr_Fetch(&type, &value, &traceback);
  }
  if (is_recursive(lock)) b.count = static_cast<uint32_t>(count);
  if (how == Acquired::kAbandoned &&
      !tell_abandoned(b)) {  // it is held: the exception leaves from the body of the with statement
    chain(type, value, traceback);
  } else if (type != nullptr) {
    PyErr_Restore(type, value, traceback);
  }
  return true;
}

bool add_lock_types(PyObject* module) {
  lock_type =
      reinterpret_cast<PyTypeObject*>(PyType_FromSpecWithBases(&lock_spec, reinterpret_cast<PyObject*>(handle_type)));
  rlock_type =
      reinterpret_cast<PyTypeObject*>(PyType_FromSpecWithBases(&rlock_spec, reinterpret_cast<PyObject*>(handle_type)));
  if (lock_type == nullptr || rlock_type == nullptr) return false;
  register_kind(lock_type, object::Kind::kLock);
  register_kind(rlock_type, object::Kind::kRLock);
  return PyModule_AddObjectRef(module, "LockBase", reinterpret_cast<PyObject*>(lock_type)) == 0 &&
         PyModule_AddObjectRef(module, "RLockBase", reinterpret_cast<PyObject*>(rlock_type)) == 0 &&
         PyModule_AddFunctions(module, functions) == 0;
}

}  // namespace shoal::bindings
