// Floor 8: Wire, one end of a pipe between processes of a tree: two channels for the bytes, a socket for what kernels are good at (end of file, hang-up), and two
// eventfds as bells, one for each direction. Whoever sleeps, sleeps in poll() on socket and bell.
#include <poll.h>
#include <sys/epoll.h>

#include "bindings/codec.hpp"
#include "bindings/types.hpp"
#include "channel/channel.hpp"

namespace shoal::bindings {

namespace {

PyTypeObject* wire_type = nullptr;

struct Wire {
  PyObject_HEAD Handle* incoming;  // nullptr: cannot receive
  Handle* outgoing;
  int socket, bell_in, bell_out;
  int epoll;            // fileno(): made when first asked for
  uint32_t closings;    // of the outgoing channel, when the socket was last looked at
  uint32_t recoveries;  // of the tree, likewise
  uint32_t sent;        // since then
  bool gone;            // the other end has hung up: for good
  pid_t owner;          // of the epoll descriptor: a forked child makes its own
};

Wire* wire(PyObject* self) { return reinterpret_cast<Wire*>(self); }

constexpr uint32_t kLookAfter = 64;           // messages sent without a look at the socket
constexpr uint64_t kRoomSlice = 500'000'000;  // ns between looks at the socket while there is no room
constexpr int kSignalSlice = 1000;            // ms, see sync/gate.cpp

PyObject* closed_error() {
  PyErr_SetString(PyExc_OSError, "handle is closed");
  return nullptr;
}

int wire_init(PyObject* self, PyObject* args, PyObject*) {
  Wire* w = wire(self);
  PyObject *incoming = nullptr, *outgoing = nullptr;
  int socket = -1, bell_in = -1, bell_out = -1;
  if (!PyArg_ParseTuple(args, "iiiOO", &socket, &bell_in, &bell_out, &incoming, &outgoing)) return -1;
  for (PyObject* c : {incoming, outgoing})
    if (c != Py_None && !PyObject_TypeCheck(c, channel_type)) {
      PyErr_SetString(PyExc_TypeError, "Wire(socket, bell_in, bell_out, incoming, outgoing): channels or None");
      return -1;
    }
  w->incoming = incoming != Py_None ? reinterpret_cast<Handle*>(Py_NewRef(incoming)) : nullptr;
  w->outgoing = outgoing != Py_None ? reinterpret_cast<Handle*>(Py_NewRef(outgoing)) : nullptr;
  w->socket = socket;
  w->bell_in = bell_in;
  w->bell_out = bell_out;
  return 0;
}

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

void wire_dealloc(PyObject* self) {
  close_all(wire(self));
  Py_CLEAR(wire(self)->incoming);
  Py_CLEAR(wire(self)->outgoing);
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

PyObject* put_message(Wire* w, Outgoing& out) {
  GilWait gil;
  begin_wait_for_ever(gil);
  channel::Result r = channel::Result::kFull;
  bool gone = peer_has_gone(w);
  const uint32_t index = w->outgoing->index;
  const int bell = w->bell_out;
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

bool check_writable(Wire* w) {
  if (w->socket < 0) return closed_error() != nullptr;
  if (w->outgoing != nullptr) return true;
  PyErr_SetString(PyExc_OSError, "connection is read-only");
  return false;
}

bool check_readable(Wire* w) {
  if (w->socket < 0) return closed_error() != nullptr;
  if (w->incoming != nullptr) return true;
  PyErr_SetString(PyExc_OSError, "connection is write-only");
  return false;
}

PyObject* wire_send(PyObject* self, PyObject* obj) {
  Wire* w = wire(self);
  Outgoing out;
  if (!check_writable(w) || !encode(out, obj)) return nullptr;
  if (w->socket < 0) {  // closed by the pickling
    release(out, false);
    return closed_error();
  }
  return put_message(w, out);
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

enum class Look { kMessage, kNothing, kEnd, kInterrupted, kNoMemory };

// Waits until `taken` holds a message (or, with taken == nullptr, until there is one). The GIL may be let go of.
Look look(Wire* w, channel::Taken* taken, GilWait& gil) {
  const uint32_t index = w->incoming->index;
  channel::Channel& c = *channel::at(index);
  const int socket = w->socket, bell = w->bell_in;
  const uint64_t deadline = gil.wait.deadline;
  bool ended = false;
  for (bool spun = false;;) {
    if (taken != nullptr) {
      const channel::Result r = channel::get_now(index, *taken, gil.wait, bell);
      if (r == channel::Result::kDone) return Look::kMessage;
      if (r == channel::Result::kInterrupted) return Look::kInterrupted;
      if (r == channel::Result::kNoMemory) return Look::kNoMemory;
    } else if (!channel::is_empty(c.ring)) {
      return Look::kMessage;
    }
    if (ended) return Look::kEnd;
    if (deadline == 0) {
      // What a peer sent before it went comes first: look at the socket, then once more at the ring.
      pollfd p{socket, POLLIN, 0};
      if (poll(&p, 1, 0) <= 0) return Look::kNothing;
      ended = true;
      continue;
    }
    gil.wait.begin();
    if (!spun) {
      spun = true;
      if (sync::spin([&] { return !channel::is_empty(c.ring); })) continue;
    }
    if (gil.wait.should_stop()) return Look::kInterrupted;
    if (!channel::arm(index, channel::kArmedOnce, bell, gil.wait)) continue;
    int milliseconds = gil.wait.interrupted != nullptr ? kSignalSlice : -1;
    if (deadline != os::kNever) {
      const uint64_t now = os::now();
      if (now >= deadline) return Look::kNothing;
      const auto left = static_cast<int>(std::min<uint64_t>((deadline - now + 999'999) / 1'000'000, INT_MAX));
      milliseconds = milliseconds < 0 ? left : std::min(left, milliseconds);
    }
    pollfd p[2] = {{socket, POLLIN, 0}, {bell, POLLIN, 0}};
    if (poll(p, 2, milliseconds) < 0) continue;  // a signal: looked at above
    if (p[0].revents != 0) ended = true;
    // A bell that rang for nothing (a killed producer's, or one that another reader has answered) is silenced by get_now() or here.
    if (p[1].revents != 0 && taken == nullptr && channel::is_empty(c.ring)) channel::silence(c, bell);
  }
}

bool receive(Wire* w, Incoming& in) {
  if (!check_readable(w)) return false;
  GilWait gil;
  begin_wait_for_ever(gil);
  in.taken.buffer = in.stack;
  const Look seen = look(w, &in.taken, gil);
  end_wait(gil);
  if (seen == Look::kMessage) return true;
  if (seen == Look::kNoMemory) raise_status(arena::Status::kSystem);
  if (seen == Look::kEnd || seen == Look::kNothing) PyErr_SetNone(PyExc_EOFError);
  return false;
}

PyObject* wire_recv(PyObject* self, PyObject*) {
  Incoming in;
  if (!receive(wire(self), in)) return nullptr;
  if (raw_length(in) >= 0) {  // sent with send_bytes: a pickle that the sender made himself
    PyObject* bytes = decode_bytes(in);
    PyObject* loads = bytes != nullptr ? imported("pickle", "loads") : nullptr;
    PyObject* obj = loads != nullptr ? PyObject_CallOneArg(loads, bytes) : nullptr;
    Py_XDECREF(bytes);
    return obj;
  }
  return decode(in);
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
  if (w->epoll >= 0 && w->owner != getpid()) drop_epoll(w);  // inherited by a fork: its interest list is the parent's
  if (w->epoll < 0) {
    const int fd = epoll_create1(EPOLL_CLOEXEC);
    if (fd < 0) return PyErr_SetFromErrno(PyExc_OSError);
    epoll_event event{EPOLLIN | EPOLLRDHUP, {.fd = w->socket}};
    epoll_ctl(fd, EPOLL_CTL_ADD, w->socket, &event);
    event = {EPOLLIN, {.fd = w->bell_in}};
    epoll_ctl(fd, EPOLL_CTL_ADD, w->bell_in, &event);
    w->epoll = fd;
    w->owner = getpid();
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

PyMethodDef methods[] = {{"send", wire_send, METH_O, "send(obj)"},
                         {"recv", wire_recv, METH_NOARGS, "recv() -> obj; EOFError when the other end has gone"},
                         {"_send_raw", wire_send_raw, METH_O, "Sends the bytes of a contiguous buffer."},
                         {"_recv_raw", wire_recv_raw, METH_NOARGS, "The bytes of the next message."},
                         {"_poll", wire_poll, METH_O, "_poll(seconds or None)"},
                         {"fileno", wire_fileno, METH_NOARGS, "A descriptor for select, poll and asyncio."},
                         {"close", wire_close, METH_NOARGS, nullptr},
                         {"_stop_reading", wire_stop_reading, METH_NOARGS, "This end receives no more."},
                         {"_parts", wire_parts, METH_NOARGS, "(socket, bell_in, bell_out, incoming, outgoing)"},
                         {nullptr, nullptr, 0, nullptr}};
PyGetSetDef getset[] = {{"closed", wire_closed, nullptr, nullptr, nullptr},
                        {"readable", wire_readable, nullptr, nullptr, nullptr},
                        {"writable", wire_writable, nullptr, nullptr, nullptr},
                        {nullptr, nullptr, nullptr, nullptr, nullptr}};
PyType_Slot slots[] = {
    {Py_tp_init, reinterpret_cast<void*>(wire_init)},
    {Py_tp_new, reinterpret_cast<void*>(wire_new)},
    {Py_tp_dealloc, reinterpret_cast<void*>(wire_dealloc)},
    {Py_tp_methods, methods},
    {Py_tp_getset, getset},
    {Py_tp_doc, const_cast<char*>("Wire(socket, bell_in, bell_out, incoming, outgoing): takes the descriptors over.")},
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
