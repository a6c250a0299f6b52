// Floor 8: Semaphore and BoundedSemaphore.
//
// `with` takes permits, which are given back when their holder is killed; acquire() and release() move bare tokens. A handle keeps a list of the permits
// that were taken through it (under the GIL): any of them will do for the next __exit__.
#include <cstdlib>

#include "bindings/sync_types.hpp"
#include "sync/semaphore.hpp"

namespace shoal::bindings {

namespace {

using sync::Obtained;
using sync::SemaphoreBody;

struct SemaphoreObject {
  Handle handle;
  uint32_t* permits;
  uint32_t count, room;
};

SemaphoreObject* semaphore(PyObject* self) { return reinterpret_cast<SemaphoreObject*>(self); }
uint32_t index_of(PyObject* self) { return reinterpret_cast<Handle*>(self)->index; }
SemaphoreBody* body(PyObject* self) { return body_of<SemaphoreBody>(self); }

int semaphore_init(PyObject* self, PyObject* args, PyObject* kwargs) {
  static const char* names[] = {"value", "maximum", nullptr};
  Py_ssize_t value = 1, maximum = sync::kSemaphoreMost;
  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|nn", const_cast<char**>(names), &value, &maximum)) return -1;
  if (value < 0) {
    PyErr_SetString(PyExc_ValueError, "semaphore initial value must be >= 0");
    return -1;
  }
  if (value > maximum || maximum > static_cast<Py_ssize_t>(sync::kSemaphoreMost)) {
    PyErr_Format(PyExc_OverflowError, "a semaphore's value is at most %u", sync::kSemaphoreMost);
    return -1;
  }
  return make_object<SemaphoreBody>(self, object::Kind::kSemaphore, [&](SemaphoreBody& b) {
    sync::init(b, static_cast<uint32_t>(value), static_cast<uint32_t>(maximum));
  });
}

void semaphore_dealloc(PyObject* self) {
  SemaphoreObject* s = semaphore(self);
  // Taken by a bare __enter__(), and never given back: tokens like any other.
  for (uint32_t i = 0; i < s->count; ++i)
    if (sync::is_my_permit(s->permits[i], index_of(self))) sync::forget_permit(s->permits[i]);
  std::free(s->permits);
  let_go(&s->handle);
  PyTypeObject* type = Py_TYPE(self);
  type->tp_free(self);
  Py_DECREF(type);
}

PyObject* finish(GilWait& gil, Obtained how) {
  end_wait(gil);
  switch (how) {
    case Obtained::kYes:
      Py_RETURN_TRUE;
    case Obtained::kTimeout:
      Py_RETURN_FALSE;
    case Obtained::kNoNode:
      return raise_no_node();
    case Obtained::kInterrupted:
      break;
  }
  return nullptr;
}

PyObject* semaphore_acquire(PyObject* self, PyObject* const* args, Py_ssize_t count, PyObject* names) {
  bool block = true;
  PyObject* timeout = nullptr;
  if ((count != 0 || names != nullptr) && !read_arguments("acquire", args, count, names, &block, &timeout))
    return nullptr;
  SemaphoreBody* b = body(self);
  if (b == nullptr) return nullptr;
  if (sync::try_acquire(*b)) Py_RETURN_TRUE;
  GilWait gil;
  if (!start_wait(gil, block, timeout)) return nullptr;
  const Obtained how = sync::acquire(*b, index_of(self), gil.wait);
  return finish(gil, how);
}

PyObject* raise_too_many() {
  PyErr_SetString(PyExc_ValueError, "semaphore or lock released too many times");
  return nullptr;
}

PyObject* semaphore_release(PyObject* self, PyObject*) {
  SemaphoreBody* b = body(self);
  if (b == nullptr) return nullptr;
  if (!sync::release(*b)) return raise_too_many();
  Py_RETURN_NONE;
}

bool has_room(SemaphoreObject* s) {
  if (s->count < s->room) return true;
  const uint32_t room = s->room == 0 ? 4 : s->room * 2;
  void* grown = std::realloc(s->permits, room * sizeof(uint32_t));
  if (grown == nullptr) return false;
  s->permits = static_cast<uint32_t*>(grown);
  s->room = room;
  return true;
}

PyObject* semaphore_enter(PyObject* self, PyObject*) {
  SemaphoreBody* b = body(self);
  if (b == nullptr) return nullptr;
  uint32_t permit = process::kNoNode;
  GilWait gil;
  Obtained how = sync::try_acquire_permit(*b, index_of(self), permit);
  if (how == Obtained::kTimeout) {
    begin_wait_for_ever(gil);
    how = sync::acquire_permit(*b, index_of(self), gil.wait, permit);
  }
  PyObject* result = finish(gil, how);
  if (how != Obtained::kYes) return result;
  if (!has_room(semaphore(self))) {
    sync::release_permit(*b, permit);
    return PyErr_NoMemory();
  }
  semaphore(self)->permits[semaphore(self)->count++] = permit;
  return result;
}

PyObject* semaphore_exit(PyObject* self, PyObject* const*, Py_ssize_t) {
  SemaphoreBody* b = body(self);
  if (b == nullptr) return nullptr;
  SemaphoreObject* s = semaphore(self);
  if (s->count != 0) {
    const uint32_t permit = s->permits[--s->count];
    if (sync::is_my_permit(permit, index_of(self))) {
      if (!sync::release_permit(*b, permit)) return raise_too_many();
      Py_RETURN_NONE;
    }
  }
  return semaphore_release(self, nullptr);
}

PyObject* semaphore_value(PyObject* self, PyObject*) {
  SemaphoreBody* b = body(self);
  return b == nullptr ? nullptr : PyLong_FromUnsignedLong(sync::value_of(*b));
}

PyObject* semaphore_is_zero(PyObject* self, PyObject*) {
  SemaphoreBody* b = body(self);
  return b == nullptr ? nullptr : PyBool_FromLong(sync::value_of(*b) == 0);
}

PyObject* semaphore_maximum(PyObject* self, void*) {
  SemaphoreBody* b = body(self);
  return b == nullptr ? nullptr : PyLong_FromUnsignedLong(b->maximum);
}

PyMethodDef methods[] = {
    {"acquire", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(semaphore_acquire)),
     METH_FASTCALL | METH_KEYWORDS,
     "acquire($self, /, block=True, timeout=None)\n--\n\nTake one. ``timeout`` is in seconds; false when it passed."},
    {"release", semaphore_release, METH_NOARGS, "release($self, /)\n--\n\nGive one back; ValueError at the maximum."},
    {"__enter__", semaphore_enter, METH_NOARGS, "__enter__($self, /)\n--\n\nTake one."},
    {"__exit__", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(semaphore_exit)), METH_FASTCALL,
     "__exit__($self, /, *args)\n--\n\nGive it back."},
    {"get_value", semaphore_value, METH_NOARGS, "get_value($self, /)\n--\n\nHow many may be taken now."},
    {"locked", semaphore_is_zero, METH_NOARGS, "locked($self, /)\n--\n\nWhether none is left."},
    {"_get_value", semaphore_value, METH_NOARGS, nullptr},
    {"_is_zero", semaphore_is_zero, METH_NOARGS, nullptr},
    {nullptr, nullptr, 0, nullptr}};
PyGetSetDef attributes[] = {{"maxvalue", semaphore_maximum, nullptr, "What release() may not go beyond.", nullptr},
                            {nullptr, nullptr, nullptr, nullptr, nullptr}};
PyType_Slot slots[] = {{Py_tp_init, reinterpret_cast<void*>(semaphore_init)},
                       {Py_tp_dealloc, reinterpret_cast<void*>(semaphore_dealloc)},
                       {Py_tp_methods, methods},
                       {Py_tp_getset, attributes},
                       {Py_tp_doc, const_cast<char*>("A counter between processes that never goes below zero.")},
                       {0, nullptr}};
PyType_Spec spec = {"shoal._native.SemaphoreBase", sizeof(SemaphoreObject), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
                    slots};

}  // namespace

bool add_semaphore_type(PyObject* module) {
  PyObject* type = PyType_FromSpecWithBases(&spec, reinterpret_cast<PyObject*>(handle_type));
  if (type == nullptr) return false;
  register_kind(reinterpret_cast<PyTypeObject*>(type), object::Kind::kSemaphore);
  return PyModule_AddObjectRef(module, "SemaphoreBase", type) == 0;
}

}  // namespace shoal::bindings
