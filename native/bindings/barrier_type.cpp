// Floor 8: Barrier. Its action is Python, and runs with nothing held: the others wait for the generation to end, or for the barrier to break.
#include "sync/barrier.hpp"

#include "bindings/sync_types.hpp"

namespace shoal::bindings {

namespace {

using sync::BarrierBody;
using sync::Passed;

struct BarrierObject {
  Handle handle;
  PyObject* action;   // each handle's own; None: none
  PyObject* timeout;  // seconds or None: wait()'s default
};

BarrierObject* barrier(PyObject* self) { return reinterpret_cast<BarrierObject*>(self); }
BarrierBody* body(PyObject* self) { return body_of<BarrierBody>(self); }

void set_defaults(BarrierObject* b, PyObject* action, PyObject* timeout) {
  Py_XSETREF(b->action, Py_NewRef(action));
  Py_XSETREF(b->timeout, Py_NewRef(timeout));
}

int barrier_init(PyObject* self, PyObject* args, PyObject* kwargs) {
  static const char* names[] = {"parties", "action", "timeout", nullptr};
  Py_ssize_t parties = 0;
  PyObject *action = Py_None, *timeout = Py_None;
  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "n|OO", const_cast<char**>(names), &parties, &action, &timeout))
    return -1;
  if (parties < 1 || parties > static_cast<Py_ssize_t>(sync::kMostParties)) {
    PyErr_Format(PyExc_ValueError, "parties must be >= 1%s", parties < 1 ? "" : ", and below 16777216");
    return -1;
  }
  if (make_object<BarrierBody>(self, object::Kind::kBarrier,
                               [&](BarrierBody& b) { sync::init(b, static_cast<uint32_t>(parties)); }) < 0)
    return -1;
  set_defaults(barrier(self), action, timeout);
  return 0;
}

int barrier_traverse(PyObject* self, visitproc visit, void* arg) {
  Py_VISIT(Py_TYPE(self));
  Py_VISIT(barrier(self)->action);
  Py_VISIT(barrier(self)->timeout);
  return 0;
}

int barrier_clear(PyObject* self) {
  Py_CLEAR(barrier(self)->action);
  Py_CLEAR(barrier(self)->timeout);
  return 0;
}

void barrier_dealloc(PyObject* self) {
  PyObject_GC_UnTrack(self);
  barrier_clear(self);
  let_go(&barrier(self)->handle);
  PyTypeObject* type = Py_TYPE(self);
  type->tp_free(self);
  Py_DECREF(type);
}

// This party is the last: the others wait for it.
Passed act(BarrierObject* self, BarrierBody& b, sync::Party& party) {
  PyObject* result = PyObject_CallNoArgs(self->action);
  Py_XDECREF(result);
  return sync::finish(b, party, result != nullptr);
}

PyObject* barrier_wait(PyObject* self, PyObject* const* args, Py_ssize_t count, PyObject* names) {
  PyObject* timeout = nullptr;
  if ((count != 0 || names != nullptr) && !read_arguments("wait", args, count, names, nullptr, &timeout))
    return nullptr;
  BarrierBody* b = body(self);
  if (b == nullptr) return nullptr;
  BarrierObject* mine = barrier(self);
  if (timeout == nullptr || timeout == Py_None) timeout = mine->timeout;
  const bool has_action = mine->action != nullptr && mine->action != Py_None;
  GilWait gil;
  if (!start_wait(gil, true, timeout)) return nullptr;
  sync::Party party;
  Passed how = sync::arrive(*b, mine->handle.index, has_action, party, gil.wait);
  end_wait(gil);
  if (how == Passed::kMustAct) how = act(mine, *b, party);
  if (PyErr_Occurred() != nullptr) return nullptr;
  switch (how) {
    case Passed::kPassed:
      return PyLong_FromUnsignedLong(party.index);
    case Passed::kNoNode:
      return raise_no_node();
    case Passed::kBroken:
      return raise_from("threading", "BrokenBarrierError", nullptr);
    default:
      return nullptr;
  }
}

PyObject* barrier_abort(PyObject* self, PyObject*) {
  BarrierBody* b = body(self);
  if (b == nullptr) return nullptr;
  sync::abort(*b);
  Py_RETURN_NONE;
}

PyObject* barrier_reset(PyObject* self, PyObject*) {
  BarrierBody* b = body(self);
  if (b == nullptr) return nullptr;
  sync::reset(*b);
  Py_RETURN_NONE;
}

PyObject* barrier_parties(PyObject* self, void*) {
  BarrierBody* b = body(self);
  return b == nullptr ? nullptr : PyLong_FromUnsignedLong(b->parties);
}
PyObject* barrier_waiting(PyObject* self, void*) {
  BarrierBody* b = body(self);
  return b == nullptr ? nullptr : PyLong_FromUnsignedLong(sync::count_waiting(*b));
}
PyObject* barrier_broken(PyObject* self, void*) {
  BarrierBody* b = body(self);
  return b == nullptr ? nullptr : PyBool_FromLong(sync::is_broken(*b));
}
PyObject* barrier_defaults(PyObject* self, PyObject*) {
  BarrierObject* b = barrier(self);
  return Py_BuildValue("OO", b->action != nullptr ? b->action : Py_None, b->timeout != nullptr ? b->timeout : Py_None);
}
PyObject* barrier_set_defaults(PyObject* self, PyObject* args) {
  PyObject *action = nullptr, *timeout = nullptr;
  if (!PyArg_ParseTuple(args, "OO", &action, &timeout)) return nullptr;
  set_defaults(barrier(self), action, timeout);
  Py_RETURN_NONE;
}

PyMethodDef methods[] = {
    {"wait", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(barrier_wait)), METH_FASTCALL | METH_KEYWORDS,
     "wait($self, /, timeout=None)\n--\n\n"
     "Wait for all parties. Gives each a different number below ``parties``; ``timeout`` is in seconds.\n\n"
     "BrokenBarrierError when it passed, when a party was killed, and after abort() or reset()."},
    {"abort", barrier_abort, METH_NOARGS, "abort($self, /)\n--\n\nBreak the barrier."},
    {"reset", barrier_reset, METH_NOARGS,
     "reset($self, /)\n--\n\nMake it like new; who waits gets BrokenBarrierError."},
    {"_defaults", barrier_defaults, METH_NOARGS, "(action, timeout)"},
    {"_set_defaults", barrier_set_defaults, METH_VARARGS, "_set_defaults(action, timeout): of an adopted handle."},
    {nullptr, nullptr, 0, nullptr}};
PyGetSetDef attributes[] = {{"parties", barrier_parties, nullptr, "How many it waits for.", nullptr},
                            {"n_waiting", barrier_waiting, nullptr, "How many wait now.", nullptr},
                            {"broken", barrier_broken, nullptr, "Whether it is broken.", nullptr},
                            {nullptr, nullptr, nullptr, nullptr, nullptr}};
PyType_Slot slots[] = {{Py_tp_init, reinterpret_cast<void*>(barrier_init)},
                       {Py_tp_dealloc, reinterpret_cast<void*>(barrier_dealloc)},
                       {Py_tp_traverse, reinterpret_cast<void*>(barrier_traverse)},
                       {Py_tp_clear, reinterpret_cast<void*>(barrier_clear)},
                       {Py_tp_free, reinterpret_cast<void*>(PyObject_GC_Del)},
                       {Py_tp_methods, methods},
                       {Py_tp_getset, attributes},
                       {Py_tp_doc, const_cast<char*>("A point where processes wait for each other.")},
                       {0, nullptr}};
PyType_Spec spec = {"shoal._native.BarrierBase", sizeof(BarrierObject), 0,
                    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC, slots};

}  // namespace

bool add_barrier_type(PyObject* module) {
  PyObject* type = PyType_FromSpecWithBases(&spec, reinterpret_cast<PyObject*>(handle_type));
  if (type == nullptr) return false;
  register_kind(reinterpret_cast<PyTypeObject*>(type), object::Kind::kBarrier);
  return PyModule_AddObjectRef(module, "BarrierBase", type) == 0;
}

}  // namespace shoal::bindings
