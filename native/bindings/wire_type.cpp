// Floor 8: Wire as Python sees it.
#include <poll.h>
#include <sys/epoll.h>

#include "bindings/multiplexer.hpp"
#include "channel/doorbell.hpp"
#include "sync/company.hpp"

namespace shoal::bindings {

namespace {

PyTypeObject* wire_type = nullptr;

Wire* wire(PyObject* self) { return reinterpret_cast<Wire*>(self); }

constexpr uint32_t kLookAfter = 64;           // messages sent without a look at the socket
constexpr uint64_t kRoomSlice = 500'000'000;  // ns between looks at the socket while there is no room

PyObject* wire_new(PyTypeObject* type, PyObject*, PyObject*) {
  auto* w = reinterpret_cast<Wire*>(type->tp_alloc(type, 0));
  if (w != nullptr) w->socket = w->bell_in = w->bell_out = w->epoll = -1;
  return reinterpret_cast<PyObject*>(w);
}

void drop_epoll(Wire* w) {
  if (w->epoll >= 0) ::close(w->epoll);
  w->epoll = -1;
}

void close_all(Wire* w) {
  if (w->socket < 0) return;
  drop_epoll(w);
  sync::leave(w->company);
  for (Handle* h : {w->incoming, w->outgoing})
    if (h != nullptr && h->held) channel::at(h->index)->closings.fetch_add(1);
  for (int* fd : {&w->socket, &w->bell_in, &w->bell_out}) {
    if (*fd >= 0) ::close(*fd);
    *fd = -1;
  }
  // A sender that waits for room looks at its socket.
  if (w->incoming != nullptr && w->incoming->held) sync::call_all(channel::at(w->incoming->index)->space);
  Py_CLEAR(w->incoming);
  Py_CLEAR(w->outgoing);
}

int wire_init(PyObject* self, PyObject* args, PyObject*) {
  Wire* w = wire(self);
  PyObject *incoming = nullptr, *outgoing = nullptr, *multiplexer = Py_None;
  int socket = -1, bell_in = -1, bell_out = -1, is_private = 0;
  if (!PyArg_ParseTuple(args, "iiiOO|pO", &socket, &bell_in, &bell_out, &incoming, &outgoing, &is_private,
                        &multiplexer))
    return -1;
  for (PyObject* c : {incoming, outgoing})
    if (c != Py_None && !PyObject_TypeCheck(c, channel_type)) {
      PyErr_SetString(PyExc_TypeError, "Wire(socket, bell_in, bell_out, incoming, outgoing): channels or None");
      return -1;
    }
  if (multiplexer != Py_None && !PyObject_TypeCheck(multiplexer, multiplexer_type)) {
    PyErr_SetString(PyExc_TypeError, "Wire(..., multiplexer): a Multiplexer or None");
    return -1;
  }
  w->incoming = incoming != Py_None ? reinterpret_cast<Handle*>(Py_NewRef(incoming)) : nullptr;
  w->outgoing = outgoing != Py_None ? reinterpret_cast<Handle*>(Py_NewRef(outgoing)) : nullptr;
  w->socket = socket;
  w->bell_in = bell_in;
  w->bell_out = bell_out;
  w->is_private = is_private != 0;
  if (w->is_private && multiplexer != Py_None) {
    w->multiplexer = Py_NewRef(multiplexer);
    w->company.mine = &channel::at(w->outgoing->index)->putter;
  }
  if (!w->is_private || open_epoll(w, EPOLLIN | EPOLLET)) return 0;
  PyErr_SetFromErrno(PyExc_OSError);
  close_all(w);
  return -1;
}

void wire_dealloc(PyObject* self) {
  close_all(wire(self));
  Py_CLEAR(wire(self)->incoming);
  Py_CLEAR(wire(self)->outgoing);
  Py_CLEAR(wire(self)->multiplexer);
  Py_CLEAR(wire(self)->kept);
  PyTypeObject* type = Py_TYPE(self);
  type->tp_free(self);
  Py_DECREF(type);
}

// The other end: true when nobody holds it any more.
bool hung_up(Wire* w) {
  pollfd p{w->socket, 0, 0};
  return poll(&p, 1, 0) > 0 && (p.revents & (POLLHUP | POLLERR | POLLNVAL)) != 0;
}

// Asking the kernel for each message would cost more than the message. So it is asked when something has been closed or somebody has died since it was
// last asked, and now and then.
bool peer_has_gone(Wire* w) {
  if (w->gone) return true;
  const uint32_t closings = channel::at(w->outgoing->index)->closings.load(std::memory_order_relaxed);
  const uint32_t recoveries = arena::header().recoveries.load(std::memory_order_relaxed);
  if (closings == w->closings && recoveries == w->recoveries && ++w->sent < kLookAfter) return false;
  w->closings = closings;
  w->recoveries = recoveries;
  w->sent = 0;
  return w->gone = hung_up(w);
}

}  // namespace

PyObject* put_message(Wire* w, Outgoing& out, Bell when) {
  GilWait gil;
  begin_wait_for_ever(gil);
  channel::Result r = channel::Result::kFull;
  bool gone = peer_has_gone(w);
  const uint32_t index = w->outgoing->index;
  channel::Channel& c = *channel::at(index);
  const int bell = w->is_private ? -1 : w->bell_out;
  sync::leave_word(c.putter);
  while (!gone) {
    gil.wait.deadline = 0;
    r = channel::put(index, out.message, gil.wait, bell);
    if (r != channel::Result::kFull) break;
    // Bounded, as a kernel pipe is: wait for the reader, and look whether there still is one.
    gil.wait.deadline = os::now() + kRoomSlice;
    r = channel::put(index, out.message, gil.wait, bell);
    if (r != channel::Result::kFull) break;
    gone = w->gone = hung_up(w);
  }
  if (w->is_private && when == Bell::kNow && r == channel::Result::kDone) channel::call(c, w->bell_out);
  end_wait(gil);
  release(out, !gone && r == channel::Result::kDone);
  if (gone) {
    errno = EPIPE;
    return PyErr_SetFromErrno(PyExc_OSError);
  }
  if (r == channel::Result::kNoMemory) return raise_status(arena::Status::kNoMemory);
  if (r != channel::Result::kDone) return nullptr;
  Py_RETURN_NONE;
}

bool check_writable(const Wire* w) {
  if (w->socket < 0) return closed_error() != nullptr;
  if (w->outgoing != nullptr) return true;
  PyErr_SetString(PyExc_OSError, "connection is read-only");
  return false;
}

bool encode_for(const Wire* w, Outgoing& out, PyObject* obj) {
  if (!check_writable(w) || !encode(out, obj)) return false;
  if (w->socket >= 0) return true;
  release(out, false);  // closed by the pickling
  closed_error();
  return false;
}

PyObject* decode_any(Incoming& in) {
  if (raw_length(in) < 0) return decode(in);
  // Sent with send_bytes: a pickle that the sender made himself.
  PyObject* bytes = decode_bytes(in);
  PyObject* loads = bytes != nullptr ? imported("pickle", "loads") : nullptr;
  PyObject* obj = loads != nullptr ? PyObject_CallOneArg(loads, bytes) : nullptr;
  Py_XDECREF(bytes);
  return obj;
}

namespace {

PyObject* wire_send(PyObject* self, PyObject* obj) {
  Wire* w = wire(self);
  Outgoing out;
  return encode_for(w, out, obj) ? put_message(w, out) : nullptr;
}

PyObject* wire_send_raw(PyObject* self, PyObject* view) {
  Wire* w = wire(self);
  if (!check_writable(w)) return nullptr;
  Py_buffer b;
  if (PyObject_GetBuffer(view, &b, PyBUF_SIMPLE) != 0) return nullptr;
  Outgoing out;
  PyObject* result = encode_raw(out, static_cast<const char*>(b.buf), b.len) ? put_message(w, out) : nullptr;
  PyBuffer_Release(&b);
  return result;
}

PyObject* wire_recv(PyObject* self, PyObject*) {
  Incoming in;
  return receive(wire(self), in) ? decode_any(in) : nullptr;
}

// A client that asks often, and nothing that takes its time, is answered by the server's multiplexer.
constexpr uint32_t kOften = 64;           // exchanges in a row …
constexpr uint64_t kLively = 50'000'000;  // … within so many ns

bool is_lively(Wire* w) {
  if (w->multiplexer == nullptr) return false;
  if (w->run++ == 0) w->run_began = os::now();
  if (w->run < kOften) return false;
  w->run = 0;
  return os::now() - w->run_began < kLively;
}

// send() and recv() in one, for one who does nothing in between. After an error `progress` tells how far it got. Returns the wire itself, of which no client
// can send a copy, if nothing was received: the client is lively, and the wire is to be lent.
PyObject* wire_exchange(PyObject* self, PyObject* obj) {
  Wire* w = wire(self);
  w->progress = kNothingSent;
  const bool lively = is_lively(w);
  Outgoing out;
  PyObject* put = encode_for(w, out, obj) ? put_message(w, out, lively ? Bell::kNow : Bell::kLater) : nullptr;
  if (put == nullptr) return nullptr;
  Py_DECREF(put);
  w->progress = kSent;
  if (w->kept != nullptr || lively) Py_XSETREF(w->kept, lively ? Py_NewRef(obj) : nullptr);
  if (lively) return Py_NewRef(self);
  Incoming in;
  if (!receive(w, in, w->is_private)) return nullptr;
  w->progress = kAnswered;
  return decode_any(in);
}

PyObject* wire_lend(PyObject* self, PyObject*) {
  Wire* w = wire(self);
  if (w->multiplexer == nullptr) return closed_error();
  if (!check_readable(w)) return nullptr;
  PyObject* request = nullptr;
  const Back back = lend(w, request);
  if (back == Back::kRequest) return request;
  if (back == Back::kNothing) return wire_recv(self, nullptr);
  PyErr_SetNone(PyExc_EOFError);
  return nullptr;
}

// Of a server's wire: what was asked for may take its time, and belongs into this thread.
PyObject* wire_not_quick(PyObject* self, PyObject*) {
  wire(self)->run = 0;
  Py_RETURN_NONE;
}

PyObject* wire_recv_raw(PyObject* self, PyObject*) {
  Incoming in;
  return receive(wire(self), in) ? decode_bytes(in) : nullptr;
}

PyObject* wire_poll(PyObject* self, PyObject* timeout) {
  Wire* w = wire(self);
  GilWait gil;
  if (!check_readable(w) || !begin_wait(gil, true, timeout)) return nullptr;
  const Look seen = look(w, nullptr, gil);
  end_wait(gil);
  if (seen == Look::kInterrupted) return nullptr;
  return PyBool_FromLong(seen != Look::kNothing);
}

// A descriptor that is readable when a message or the end of file is there: an epoll of the socket and the bell.
PyObject* wire_fileno(PyObject* self, PyObject*) {
  Wire* w = wire(self);
  if (w->socket < 0) return closed_error();
  if (w->incoming == nullptr) return PyLong_FromLong(w->socket);
  if (w->is_private) {
    PyErr_SetString(PyExc_OSError, "a private wire has no descriptor to wait for");
    return nullptr;
  }
  if (w->epoll >= 0 && w->owner != getpid()) drop_epoll(w);  // inherited by a fork: its interest list is the parent's
  if (w->epoll < 0) {
    if (!open_epoll(w, EPOLLIN)) return PyErr_SetFromErrno(PyExc_OSError);
    GilWait gil;
    begin_wait_for_ever(gil);
    channel::arm(w->incoming->index, channel::kArmedAlways, w->bell_in, gil.wait);
    end_wait(gil);
    if (PyErr_Occurred() != nullptr) return nullptr;
  }
  return PyLong_FromLong(w->epoll);
}

PyObject* wire_close(PyObject* self, PyObject*) {
  close_all(wire(self));
  Py_RETURN_NONE;
}

// After a message that was too long: as in the standard library nothing more can be read, but a duplex end still sends.
PyObject* wire_stop_reading(PyObject* self, PyObject*) {
  drop_epoll(wire(self));
  Py_CLEAR(wire(self)->incoming);
  Py_RETURN_NONE;
}

PyObject* wire_closed(PyObject* self, void*) { return PyBool_FromLong(wire(self)->socket < 0); }
PyObject* wire_progress(PyObject* self, void*) { return PyLong_FromLong(wire(self)->progress); }
PyObject* wire_readable(PyObject* self, void*) { return PyBool_FromLong(wire(self)->incoming != nullptr); }
PyObject* wire_writable(PyObject* self, void*) { return PyBool_FromLong(wire(self)->outgoing != nullptr); }

// (socket, bell_in, bell_out, incoming, outgoing): what another process needs for the same end.
PyObject* wire_parts(PyObject* self, PyObject*) {
  Wire* w = wire(self);
  if (w->socket < 0) return closed_error();
  PyObject* in = w->incoming != nullptr ? reinterpret_cast<PyObject*>(w->incoming) : Py_None;
  PyObject* out = w->outgoing != nullptr ? reinterpret_cast<PyObject*>(w->outgoing) : Py_None;
  return Py_BuildValue("iiiOO", w->socket, w->bell_in, w->bell_out, in, out);
}

PyMethodDef methods[] = {
    {"send", wire_send, METH_O, "send(obj)"},
    {"recv", wire_recv, METH_NOARGS, "recv() -> obj; EOFError when the other end has gone"},
    {"exchange", wire_exchange, METH_O, "send(obj), then recv(); or this wire, if it is to be lent"},
    {"lend", wire_lend, METH_NOARGS, "Lends it to its multiplexer; the request with which it comes back, or the next."},
    {"not_quick", wire_not_quick, METH_NOARGS, "The last request may take its time: the client is not lively."},
    {"_send_raw", wire_send_raw, METH_O, "Sends the bytes of a contiguous buffer."},
    {"_recv_raw", wire_recv_raw, METH_NOARGS, "The bytes of the next message."},
    {"_poll", wire_poll, METH_O, "_poll(seconds or None)"},
    {"fileno", wire_fileno, METH_NOARGS, "A descriptor for select, poll and asyncio."},
    {"close", wire_close, METH_NOARGS, nullptr},
    {"_stop_reading", wire_stop_reading, METH_NOARGS, "This end receives no more."},
    {"_parts", wire_parts, METH_NOARGS, "(socket, bell_in, bell_out, incoming, outgoing)"},
    {nullptr, nullptr, 0, nullptr}};
PyGetSetDef getset[] = {{"closed", wire_closed, nullptr, nullptr, nullptr},
                        {"progress", wire_progress, nullptr,
                         "How far the last exchange() got: 0 nothing was sent, 1 sent, 2 answered.", nullptr},
                        {"readable", wire_readable, nullptr, nullptr, nullptr},
                        {"writable", wire_writable, nullptr, nullptr, nullptr},
                        {nullptr, nullptr, nullptr, nullptr, nullptr}};
PyType_Slot slots[] = {{Py_tp_init, reinterpret_cast<void*>(wire_init)},
                       {Py_tp_new, reinterpret_cast<void*>(wire_new)},
                       {Py_tp_dealloc, reinterpret_cast<void*>(wire_dealloc)},
                       {Py_tp_methods, methods},
                       {Py_tp_getset, getset},
                       {Py_tp_doc, const_cast<char*>("Wire(socket, bell_in, bell_out, incoming, outgoing, "
                                                     "private=False, multiplexer=None): takes the descriptors over.")},
                       {0, nullptr}};
PyType_Spec spec = {"shoal._native.Wire", sizeof(Wire), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE, slots};

PyObject* pipe_channel(PyObject*, PyObject* byte_limit) {
  channel::Options options;
  options.byte_limit = PyLong_AsUnsignedLongLong(byte_limit);
  if (PyErr_Occurred() != nullptr || !ensure_attached()) return nullptr;
  uint32_t index = 0, generation = 0;
  if (const arena::Status s = channel::create(options, index, generation); s != arena::Status::kOk)
    return raise_status(s);
  PyObject* self = channel_type->tp_alloc(channel_type, 0);
  if (self != nullptr) hold_new(reinterpret_cast<Handle*>(self), object::Kind::kChannel, index, generation);
  return self;
}

PyMethodDef functions[] = {
    {"pipe_channel", pipe_channel, METH_O, "A channel that holds at most so many bytes under way."},
    {nullptr, nullptr, 0, nullptr}};

}  // namespace

bool add_wire_type(PyObject* module) {
  wire_type = reinterpret_cast<PyTypeObject*>(PyType_FromSpec(&spec));
  return wire_type != nullptr && PyModule_AddObjectRef(module, "Wire", reinterpret_cast<PyObject*>(wire_type)) == 0 &&
         PyModule_AddFunctions(module, functions) == 0;
}

}  // namespace shoal::bindings
