#include "bindings/handle.hpp"

#include <cstdlib>

#include "recovery/lifetime.hpp"

namespace shoal::bindings {

PyTypeObject* handle_type = nullptr;

namespace {

uint32_t handles_of[arena::kObjects];  // how many handles this process has of each object; under the GIL
thread_local Mentions* collecting = nullptr;
PyObject* carrier = nullptr;  // set_carrier(): makes a reference that brings its arena along; never let go of

constexpr int kKinds = 16;
struct Registered {
  PyTypeObject* type;
  object::Kind kind;
} registered[kKinds];
int registered_count = 0;

// The kind of the nearest registered base.
bool kind_of(PyTypeObject* type, object::Kind& kind) {
  for (PyTypeObject* t = type; t != nullptr; t = t->tp_base)
    for (int i = 0; i < registered_count; ++i)
      if (registered[i].type == t) {
        kind = registered[i].kind;
        return true;
      }
  return false;
}

void handle_dealloc(PyObject* self) {
  let_go(reinterpret_cast<Handle*>(self));
  PyTypeObject* type = Py_TYPE(self);
  type->tp_free(self);
  Py_DECREF(type);
}

bool note(Handle* h) {
  Mentions* m = collecting;
  if (m == nullptr) return true;
  if (m->count == m->room) {
    const uint32_t room = m->room == 0 ? 8 : m->room * 2;
    void* grown = std::realloc(m->entries, room * sizeof(Mentions::Entry));
    if (grown == nullptr) {
      PyErr_NoMemory();
      return false;
    }
    m->entries = static_cast<Mentions::Entry*>(grown);
    m->room = room;
  }
  object::hold(h->index);  // what was inherited by a fork is held explicitly before a message may keep it alive
  object::note_listed(h->index);
  m->entries[m->count++] = {h->index, h->generation};
  return true;
}

bool raise_stale(const char* text) {
  raise_from("shoal.errors", "StaleReferenceError", text);
  return false;
}

// The handle becomes one for what the reference names. False with an exception set, and the handle as it was.
bool take(PyObject* self, PyObject* reference) {
  unsigned long long arena_id = 0;
  unsigned kind = 0, index = 0, generation = 0;
  if (!PyTuple_Check(reference) || !PyArg_ParseTuple(reference, "KIII", &arena_id, &kind, &index, &generation)) {
    if (PyErr_Occurred() == nullptr) PyErr_SetString(PyExc_TypeError, "a reference is a tuple of four integers");
    return false;
  }
  object::Kind own{};
  if (!kind_of(Py_TYPE(self), own) || static_cast<unsigned>(own) != kind) {
    PyErr_Format(PyExc_TypeError, "reference of kind %u given to %R", kind, Py_TYPE(self));
    return false;
  }
  if (!arena::attached() || arena::header().id != arena_id)
    return raise_stale(
        "the object lives in shared memory that this process does not use and cannot find: that of "
        "another process tree, or whoever sent the object has ended");
  if (!ensure_attached()) return false;
  if (!object::adopt(index, generation, own))
    return raise_stale("the shared object no longer exists: every process that held it has let go of it");
  hold_new(reinterpret_cast<Handle*>(self), own, index, generation);
  return true;
}

// Pickled as the standard library's objects are, by these two, so that a subclass may add to the state. The handle that gets a state has had no __init__,
// as a rule.
PyObject* handle_getstate(PyObject* self, PyObject*) {
  PyObject* reference = handle_reference(self, nullptr);
  return reference == nullptr ? nullptr : Py_BuildValue("(N)", reference);
}

PyObject* handle_setstate(PyObject* self, PyObject* state) {
  if (!PyTuple_Check(state) || PyTuple_GET_SIZE(state) != 1) {
    PyErr_SetString(PyExc_TypeError, "the state of a shared object is a tuple of its reference");
    return nullptr;
  }
  if (!take(self, PyTuple_GET_ITEM(state, 0))) return nullptr;
  Py_RETURN_NONE;
}

PyObject* handle_index(PyObject* self, void*) {
  return PyLong_FromUnsignedLong(reinterpret_cast<Handle*>(self)->index);
}

PyMethodDef handle_methods[] = {{"_reference", handle_reference, METH_NOARGS,
                                 "(arena, kind, index, generation); notes it in the message being pickled."},
                                {"_adopt", handle_adopt, METH_O | METH_CLASS,
                                 "A handle for a reference; StaleReferenceError when the object is gone."},
                                {"__getstate__", handle_getstate, METH_NOARGS, "(reference,)"},
                                {"__setstate__", handle_setstate, METH_O,
                                 "What _adopt() does, for a handle that is there; it lets go of what it had."},
                                {nullptr, nullptr, 0, nullptr}};
PyGetSetDef handle_getset[] = {{"_index", handle_index, nullptr, "Place in the arena's table, for diagnosis.", nullptr},
                               {nullptr, nullptr, nullptr, nullptr, nullptr}};
PyType_Slot handle_slots[] = {{Py_tp_dealloc, reinterpret_cast<void*>(handle_dealloc)},
                              {Py_tp_methods, handle_methods},
                              {Py_tp_getset, handle_getset},
                              {Py_tp_doc, const_cast<char*>("Base of all objects in shoal's shared memory.")},
                              {0, nullptr}};
PyType_Spec handle_spec = {"shoal._native.Handle", sizeof(Handle), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
                           handle_slots};

}  // namespace

bool add_handle_type(PyObject* module) {
  handle_type = reinterpret_cast<PyTypeObject*>(PyType_FromSpec(&handle_spec));
  return handle_type != nullptr &&
         PyModule_AddObjectRef(module, "Handle", reinterpret_cast<PyObject*>(handle_type)) == 0;
}

PyObject* set_carrier(PyObject*, PyObject* callable) {
  carrier = Py_NewRef(callable);
  Py_RETURN_NONE;
}

void register_kind(PyTypeObject* type, object::Kind kind) { registered[registered_count++] = {type, kind}; }

void hold_new(Handle* self, object::Kind kind, uint32_t index, uint32_t generation) {
  ++handles_of[index];  // first: it may be what the handle had
  let_go(self);
  self->kind = kind;
  self->index = index;
  self->generation = generation;
  self->held = true;
  self->closed = false;
  self->body = nullptr;
}

bool check_held(const Handle* self) {
  if (self->held) return true;
  PyErr_SetString(PyExc_ValueError,
                  "this shared object has not been initialised: its class must call super().__init__()");
  return false;
}

void let_go(Handle* self) {
  if (!self->held) return;
  self->held = false;
  if (--handles_of[self->index] == 0 && process::mine() != process::kNoSlot) recovery::let_go(self->index);
}

void begin_mentions(Mentions& mentions) {
  mentions = {collecting, 0, 0, nullptr};
  collecting = &mentions;
}

void end_mentions(Mentions& mentions) {
  collecting = mentions.outer;
  std::free(mentions.entries);
  mentions.entries = nullptr;
}

uint32_t mentioned() { return collecting != nullptr ? collecting->count : 0; }

PyObject* handle_reference(PyObject* self, PyObject*) {
  auto* h = reinterpret_cast<Handle*>(self);
  if (!check_held(h) || !note(h)) return nullptr;
  PyObject* reference = Py_BuildValue("KIII", static_cast<unsigned long long>(arena::header().id),
                                      static_cast<unsigned>(h->kind), h->index, h->generation);
  if (carrier == nullptr || collecting != nullptr || reference == nullptr) return reference;
  // Not pickled for a message of ours, nor for a child that shoal starts: for one that somebody else starts, perhaps.
  PyObject* carried = PyObject_CallFunctionObjArgs(carrier, self, reference, nullptr);
  Py_DECREF(reference);
  return carried;
}

PyObject* handle_adopt(PyObject* type, PyObject* reference) {
  PyObject* self = reinterpret_cast<PyTypeObject*>(type)->tp_alloc(reinterpret_cast<PyTypeObject*>(type), 0);
  if (self == nullptr) return nullptr;
  if (!take(self, reference)) Py_CLEAR(self);
  return self;
}

}  // namespace shoal::bindings
