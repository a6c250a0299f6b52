// Floor 8: Condition: a lock, which is an object of its own, and its waiters.
//
// wait() enters, lets go of the lock, sleeps and takes the lock back in one call, so that no signal's handler can run in between. Locks of other
// classes (a semaphore, say) take part through their acquire() and release().
#include "sync/condition.hpp"

#include <algorithm>

#include "bindings/lock_types.hpp"

namespace shoal::bindings {

namespace {

using sync::Waited;
using sync::WaitersBody;

struct ConditionObject {
  Handle handle;
  PyObject* lock;
};

ConditionObject* condition(PyObject* self) { return reinterpret_cast<ConditionObject*>(self); }
uint32_t index_of(PyObject* self) { return reinterpret_cast<Handle*>(self)->index; }

// The waiters; nullptr with an exception set, also when there is no lock.
WaitersBody* body(PyObject* self) {
  WaitersBody* b = body_of<WaitersBody>(self);
  if (b == nullptr || condition(self)->lock != nullptr) return b;
  PyErr_SetString(PyExc_ValueError, "this condition has no lock");
  return nullptr;
}

// False with AttributeError set.
bool has(PyObject* lock, const char* method) {
  PyObject* found = PyObject_GetAttrString(lock, method);
  Py_XDECREF(found);
  return found != nullptr;
}

int condition_init(PyObject* self, PyObject* args, PyObject* kwargs) {
  static const char* names[] = {"lock", nullptr};
  PyObject* lock = nullptr;
  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O", const_cast<char**>(names), &lock)) return -1;
  if (!is_native_lock(lock) && !(has(lock, "acquire") && has(lock, "release"))) return -1;
  if (make_object<WaitersBody>(self, object::Kind::kCondition, [](WaitersBody&) {}) < 0) return -1;
  Py_XSETREF(condition(self)->lock, Py_NewRef(lock));
  return 0;
}

int condition_traverse(PyObject* self, visitproc visit, void* arg) {
  Py_VISIT(Py_TYPE(self));
  Py_VISIT(condition(self)->lock);
  return 0;
}

int condition_clear(PyObject* self) {
  Py_CLEAR(condition(self)->lock);
  return 0;
}

void condition_dealloc(PyObject* self) {
  PyObject_GC_UnTrack(self);
  condition_clear(self);
  let_go(&condition(self)->handle);
  PyTypeObject* type = Py_TYPE(self);
  type->tp_free(self);
  Py_DECREF(type);
}

// How often this thread holds the lock; 0 with AssertionError set when it does not, -1 when that cannot be told (a lock of another class).
int64_t owned(PyObject* lock, const char* complaint) {
  if (!is_native_lock(lock)) {
    PyObject* is_mine = PyObject_CallMethod(lock, "_is_mine", nullptr);
    if (is_mine == nullptr) {
      if (!PyErr_ExceptionMatches(PyExc_AttributeError)) return 0;
      PyErr_Clear();
      return -1;
    }
    const int truth = PyObject_IsTrue(is_mine);
    Py_DECREF(is_mine);
    if (truth > 0) return -1;
    if (truth == 0) PyErr_SetString(PyExc_AssertionError, complaint);
    return 0;
  }
  const int64_t count = held_by_me(lock);
  if (count > 0) return count;
  if (count == 0) PyErr_SetString(PyExc_AssertionError, complaint);
  return 0;
}

bool call(PyObject* lock, const char* method) {
  PyObject* result = PyObject_CallMethod(lock, method, nullptr);
  Py_XDECREF(result);
  return result != nullptr;
}

// As call(), with an exception on its way, which an exception of the method replaces.
bool call_in_passing(PyObject* lock, const char* method) {
  PyObject *type = nullptr, *value = nullptr, *traceback = nullptr;
  PyErr_Fetch(&type, &value, &traceback);
  if (!call(lock, method)) {
    Py_XDECREF(type);
    Py_XDECREF(value);
    Py_XDECREF(traceback);
    return false;
  }
  PyErr_Restore(type, value, traceback);
  return true;
}

// The condition that this thread has left by a second Ctrl-C in wait(), while somebody else held the lock: its `with` ends with that exception, not with the
// complaint that there is nothing to let go of.
thread_local const PyObject* left_without_lock_ = nullptr;

PyObject* condition_wait(PyObject* self, PyObject* const* args, Py_ssize_t count, PyObject* names) {
  PyObject* timeout = nullptr;
  if ((count != 0 || names != nullptr) && !read_arguments("wait", args, count, names, nullptr, &timeout))
    return nullptr;
  WaitersBody* b = body(self);
  if (b == nullptr) return nullptr;
  PyObject* lock = condition(self)->lock;
  const int64_t held = owned(lock, "must acquire() condition before using wait()");
  GilWait gil;
  if (held == 0 || !start_wait(gil, true, timeout)) return nullptr;
  sync::Waiter waiter;
  if (!sync::enter(*b, index_of(self), waiter)) return raise_no_node();
  Py_INCREF(lock);
  if (held > 0) {
    release_all(lock);
  } else if (!call(lock, "release")) {
    sync::leave(*b, index_of(self), waiter, false);
    Py_DECREF(lock);
    return nullptr;
  }
  const Waited how = sync::sleep(waiter, gil.wait);
  end_wait(gil);
  const bool back = held > 0 ? acquire_back(lock, held) : call_in_passing(lock, "acquire");
  if (!back) left_without_lock_ = self;
  Py_DECREF(lock);
  const bool returns = back && PyErr_Occurred() == nullptr;
  sync::leave(*b, index_of(self), waiter, returns);
  if (!returns) return nullptr;
  return PyBool_FromLong(how == Waited::kYes);
}

PyObject* notify_at_most(PyObject* self, uint32_t most) {
  WaitersBody* b = body(self);
  if (b == nullptr || owned(condition(self)->lock, "lock is not owned") == 0) return nullptr;
  sync::notify(*b, index_of(self), most);
  Py_RETURN_NONE;
}

PyObject* condition_notify(PyObject* self, PyObject* args, PyObject* kwargs) {
  static const char* names[] = {"n", nullptr};
  Py_ssize_t n = 1;
  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|n", const_cast<char**>(names), &n)) return nullptr;
  return notify_at_most(self, static_cast<uint32_t>(std::clamp<Py_ssize_t>(n, 0, UINT32_MAX)));
}

PyObject* condition_notify_all(PyObject* self, PyObject*) { return notify_at_most(self, sync::kEverybody); }

PyObject* condition_waiters(PyObject* self, PyObject*) {
  WaitersBody* b = body(self);
  return b == nullptr ? nullptr : PyLong_FromUnsignedLong(sync::count_waiters(*b, index_of(self)));
}

PyObject* enter_name_ = nullptr;
PyObject* exit_name_ = nullptr;
PyObject* interned(PyObject*& name, const char* text) {
  if (name == nullptr) name = PyUnicode_InternFromString(text);
  return name;
}

PyObject* condition_enter(PyObject* self, PyObject*) {
  if (body(self) == nullptr) return nullptr;
  if (left_without_lock_ == self) left_without_lock_ = nullptr;
  PyObject* enter = interned(enter_name_, "__enter__");
  return enter == nullptr ? nullptr : PyObject_CallMethodNoArgs(condition(self)->lock, enter);
}

PyObject* condition_exit(PyObject* self, PyObject* const* args, Py_ssize_t count) {
  if (body(self) == nullptr) return nullptr;
  if (left_without_lock_ == self) {
    left_without_lock_ = nullptr;
    if (is_native_lock(condition(self)->lock) && held_by_me(condition(self)->lock) == 0) Py_RETURN_NONE;
  }
  PyObject* exit = interned(exit_name_, "__exit__");
  if (exit == nullptr) return nullptr;
  PyObject* all[4] = {condition(self)->lock, Py_None, Py_None, Py_None};
  std::copy(args, args + std::min<Py_ssize_t>(count, 3), all + 1);
  return PyObject_VectorcallMethod(exit, all, 4, nullptr);
}

// acquire and release are the lock's own.
PyObject* condition_acquire(PyObject* self, void*) {
  return body(self) == nullptr ? nullptr : PyObject_GetAttrString(condition(self)->lock, "acquire");
}
PyObject* condition_release(PyObject* self, void*) {
  return body(self) == nullptr ? nullptr : PyObject_GetAttrString(condition(self)->lock, "release");
}
PyObject* condition_get_lock(PyObject* self, void*) {
  PyObject* lock = condition(self)->lock;
  return Py_NewRef(lock != nullptr ? lock : Py_None);
}
int condition_set_lock(PyObject* self, PyObject* lock, void*) {
  Py_XSETREF(condition(self)->lock, Py_XNewRef(lock));
  return 0;
}

PyMethodDef methods[] = {
    {"wait", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(condition_wait)), METH_FASTCALL | METH_KEYWORDS,
     "wait($self, /, timeout=None)\n--\n\n"
     "Let go of the lock, wait to be notified, take the lock back. ``timeout`` is in seconds; false when it passed."},
    {"notify", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(condition_notify)),
     METH_VARARGS | METH_KEYWORDS, "notify($self, /, n=1)\n--\n\nWake the ``n`` threads that have waited longest."},
    {"notify_all", condition_notify_all, METH_NOARGS, "notify_all($self, /)\n--\n\nWake everybody who waits."},
    {"__enter__", condition_enter, METH_NOARGS, "__enter__($self, /)\n--\n\nTake the lock."},
    {"__exit__", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(condition_exit)), METH_FASTCALL,
     "__exit__($self, /, *args)\n--\n\nLet go of the lock."},
    {"_waiters", condition_waiters, METH_NOARGS, "How many threads wait."},
    {nullptr, nullptr, 0, nullptr}};
PyGetSetDef attributes[] = {{"acquire", condition_acquire, nullptr, "The lock's.", nullptr},
                            {"release", condition_release, nullptr, "The lock's.", nullptr},
                            {"_lock", condition_get_lock, condition_set_lock, nullptr, nullptr},
                            {nullptr, nullptr, nullptr, nullptr, nullptr}};
PyType_Slot slots[] = {{Py_tp_init, reinterpret_cast<void*>(condition_init)},
                       {Py_tp_dealloc, reinterpret_cast<void*>(condition_dealloc)},
                       {Py_tp_traverse, reinterpret_cast<void*>(condition_traverse)},
                       {Py_tp_clear, reinterpret_cast<void*>(condition_clear)},
                       {Py_tp_free, reinterpret_cast<void*>(PyObject_GC_Del)},
                       {Py_tp_methods, methods},
                       {Py_tp_getset, attributes},
                       {Py_tp_doc, const_cast<char*>("A condition variable between processes.")},
                       {0, nullptr}};
PyType_Spec spec = {"shoal._native.ConditionBase", sizeof(ConditionObject), 0,
                    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC, slots};

}  // namespace

bool add_condition_type(PyObject* module) {
  PyObject* type = PyType_FromSpecWithBases(&spec, reinterpret_cast<PyObject*>(handle_type));
  if (type == nullptr) return false;
  register_kind(reinterpret_cast<PyTypeObject*>(type), object::Kind::kCondition);
  return PyModule_AddObjectRef(module, "ConditionBase", type) == 0;
}

}  // namespace shoal::bindings
