#include "bindings/multiplexer.hpp"

#include <new>

#include "channel/multiplexer.hpp"

namespace shoal::bindings {

PyTypeObject* multiplexer_type = nullptr;

namespace {

struct Multiplexer {
  PyObject_HEAD channel::Multiplexer* core;
};

// On the stack of the thread that lends: plain data.
struct Lending : channel::Lent {
  Wire* wire = nullptr;
  PyObject* request = nullptr;
  Back back = Back::kNothing;
};

channel::Multiplexer& core(PyObject* self) { return *reinterpret_cast<Multiplexer*>(self)->core; }
Lending* current(PyObject* self) { return static_cast<Lending*>(core(self).current()); }

PyObject* multiplexer_new(PyTypeObject* type, PyObject*, PyObject*) {
  PyObject* self = type->tp_alloc(type, 0);
  if (self == nullptr) return nullptr;
  auto* m = reinterpret_cast<Multiplexer*>(self);
  m->core = new (std::nothrow) channel::Multiplexer;
  if (m->core != nullptr && m->core->open()) return self;
  if (m->core != nullptr)
    PyErr_SetFromErrno(PyExc_OSError);
  else
    PyErr_NoMemory();
  Py_DECREF(self);
  return nullptr;
}

// Whoever lends a wire to it has a reference, and so has its serving thread: nobody uses it any more.
void multiplexer_dealloc(PyObject* self) {
  delete reinterpret_cast<Multiplexer*>(self)->core;
  PyTypeObject* type = Py_TYPE(self);
  type->tp_free(self);
  Py_DECREF(type);
}

PyObject* nobody() {
  PyErr_SetString(PyExc_RuntimeError, "no request was taken that could be answered");
  return nullptr;
}

PyObject* multiplexer_send(PyObject* self, PyObject* answer) {
  Lending* pipe = current(self);
  if (pipe == nullptr) return nobody();
  Outgoing out;
  PyObject* put = encode_for(pipe->wire, out, answer) ? put_message(pipe->wire, out) : nullptr;
  if (put != nullptr) Py_XSETREF(pipe->wire->kept, Py_NewRef(answer));
  return put;
}

PyObject* multiplexer_recv(PyObject* self, PyObject*) {
  GilWait gil;
  begin_wait_for_ever(gil);
  Incoming in;
  in.taken.buffer = in.stack;
  channel::Result result = channel::Result::kEmpty;
  const channel::Lent* found = core(self).next(in.taken, gil.wait, result);
  end_wait(gil);
  if (result == channel::Result::kDone) return decode_any(in);
  if (PyErr_Occurred() != nullptr) return nullptr;
  return found != nullptr ? raise_status(arena::Status::kSystem) : nobody();
}

PyObject* hand_back(PyObject* self, Back how, PyObject* request) {
  Lending* pipe = current(self);
  if (pipe == nullptr) return nobody();
  pipe->back = how;
  pipe->request = Py_XNewRef(request);
  core(self).hand_back_current();
  Py_RETURN_NONE;
}
PyObject* multiplexer_hand_back(PyObject* self, PyObject* request) { return hand_back(self, Back::kRequest, request); }
PyObject* multiplexer_hang_up(PyObject* self, PyObject*) { return hand_back(self, Back::kHangUp, nullptr); }

PyObject* multiplexer_close(PyObject* self, PyObject*) {
  core(self).close();
  Py_RETURN_NONE;
}

PyObject* multiplexer_abandon(PyObject* self, PyObject*) {
  core(self).abandon();
  Py_RETURN_NONE;
}

PyMethodDef methods[] = {
    {"recv", multiplexer_recv, METH_NOARGS, "recv() -> the next request of any wire that is lent"},
    {"send", multiplexer_send, METH_O, "send(answer) to whose request was received last"},
    {"hand_back", multiplexer_hand_back, METH_O,
     "hand_back(request): the wire whose request was received last goes back to its thread, with it."},
    {"hang_up", multiplexer_hang_up, METH_NOARGS, "It goes back to its thread, to be closed."},
    {"close", multiplexer_close, METH_NOARGS, "Hands all wires back; none is lent from then on."},
    {"abandon", multiplexer_abandon, METH_NOARGS, "In a forked child: closes its descriptors."},
    {nullptr, nullptr, 0, nullptr}};
PyType_Slot slots[] = {{Py_tp_new, reinterpret_cast<void*>(multiplexer_new)},
                       {Py_tp_dealloc, reinterpret_cast<void*>(multiplexer_dealloc)},
                       {Py_tp_methods, methods},
                       {Py_tp_doc, const_cast<char*>("Multiplexer(): one thread's way to the clients of many wires.")},
                       {0, nullptr}};
PyType_Spec spec = {"shoal._native.Multiplexer", sizeof(Multiplexer), 0, Py_TPFLAGS_DEFAULT, slots};

}  // namespace

Back lend(Wire* w, PyObject*& request) {
  Lending pipe;
  pipe.wire = w;
  pipe.incoming = w->incoming->index;
  pipe.outgoing = w->outgoing->index;
  pipe.socket = w->socket;
  pipe.bell = w->bell_in;
  sync::leave(w->company);
  GilWait gil;
  begin_wait_for_ever(gil);
  gil.wait.begin();
  core(w->multiplexer).attend(pipe);
  end_wait(gil);
  request = pipe.request;
  return pipe.back;
}

bool add_multiplexer_type(PyObject* module) {
  multiplexer_type = reinterpret_cast<PyTypeObject*>(PyType_FromSpec(&spec));
  return multiplexer_type != nullptr &&
         PyModule_AddObjectRef(module, "Multiplexer", reinterpret_cast<PyObject*>(multiplexer_type)) == 0;
}

}  // namespace shoal::bindings
