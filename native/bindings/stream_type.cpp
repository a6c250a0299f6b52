// Floor 8: messages over a descriptor. A signal handler that raises may interrupt either direction anywhere: what has been received of a message is kept for the next
// call, and of one that has been sent in part it is known.
#include "stream/stream.hpp"

#include <algorithm>
#include <cstring>

#include "bindings/types.hpp"

namespace shoal::bindings {

namespace {

// Bytes that a message is given before any of it has arrived, and how many times as many when these are full: a length that lies costs address space, and little of that.
constexpr Py_ssize_t kStep = 256 * 1024, kGrowth = 8;

// Bytes above which the last one of a message is read by itself.
constexpr uint64_t kLong = 64 * 1024;

constexpr uint64_t kBrisk = 1'000'000;  // nanoseconds that a brisk message takes to come, at most

// What has come of a message.
struct Arrival {
  stream::Head head;
  PyObject* body = nullptr;  // bytes: as many as are given to it so far
  size_t filled = 0;         // of them
};

struct Direction {
  unsigned long user = 0;  // the thread that receives, or sends
  uint32_t at = 0;         // which process's
};

struct StreamObject {
  PyObject_HEAD Arrival arrival;
  Direction receiving, sending;
  size_t written;  // of the message that is being sent
  bool brisk;      // the last message was not waited for long
  bool cut;        // a message has been sent in part: another would be taken for the rest of it
};

StreamObject* stream_of(PyObject* self) { return reinterpret_cast<StreamObject*>(self); }

PyObject* stream_new(PyTypeObject* type, PyObject*, PyObject*) {
  PyObject* self = type->tp_alloc(type, 0);
  if (self == nullptr) return nullptr;
  StreamObject* s = stream_of(self);
  s->arrival = {};
  s->receiving = s->sending = {};
  s->written = 0;
  s->brisk = s->cut = false;
  return self;
}

void stream_dealloc(PyObject* self) {
  Py_CLEAR(stream_of(self)->arrival.body);
  PyTypeObject* type = Py_TYPE(self);
  type->tp_free(self);
  Py_DECREF(type);
}

stream::Result fill(int fd, char* to, size_t size, size_t& filled, bool brisk) {
  GilWait gil;
  begin_wait_for_ever(gil);
  gil.wait.begin();
  const stream::Result result = stream::fill(fd, to, size, filled, gil.wait, brisk);
  end_wait(gil);
  return result;
}

// Room for a message that is longer than what has been given to it.
bool grow(Arrival& a, uint64_t size) {
  const Py_ssize_t now = PyBytes_GET_SIZE(a.body);
  const auto wanted = static_cast<Py_ssize_t>(std::min<uint64_t>(size, static_cast<uint64_t>(now) * kGrowth));
  PyObject* larger = PyBytes_FromStringAndSize(nullptr, wanted);
  if (larger == nullptr) return false;  // what has come is still there
  std::memcpy(PyBytes_AS_STRING(larger), PyBytes_AS_STRING(a.body), a.filled);
  Py_SETREF(a.body, larger);
  return true;
}

stream::Result fill_head(int fd, stream::Head& head, bool& brisk) {
  const uint64_t before = os::now();
  while (!head.complete()) {
    const stream::Result r = fill(fd, head.text, head.expected(), head.bytes, brisk);
    if (r != stream::Result::kDone) return r;
  }
  brisk = os::now() - before < kBrisk;
  return stream::Result::kDone;
}

// kError without an errno: an exception is set.
//
// A signal that comes while bytes are there interrupts no wait. So it is looked at as they come; of a long message, which takes its time, also before the last byte is taken:
// a handler that raised after that would keep the message from its caller.
stream::Result fill_body(int fd, Arrival& a, bool brisk) {
  const uint64_t size = a.head.size();
  if (a.body == nullptr) {
    a.body = PyBytes_FromStringAndSize(nullptr, static_cast<Py_ssize_t>(std::min<uint64_t>(size, kStep)));
    if (a.body == nullptr) return stream::Result::kError;
  }
  while (a.filled < size) {
    const auto room = static_cast<size_t>(PyBytes_GET_SIZE(a.body));
    if (a.filled == room) {
      if (!grow(a, size)) return stream::Result::kError;
      continue;
    }
    if (PyErr_CheckSignals() < 0) return stream::Result::kInterrupted;
    const bool last_is_left = room == size && size > kLong && a.filled < size - 1;
    const size_t now = last_is_left ? room - 1 : room;
    if (const stream::Result r = fill(fd, PyBytes_AS_STRING(a.body), now, a.filled, brisk); r != stream::Result::kDone)
      return r;
  }
  return stream::Result::kDone;
}

// Both methods take a descriptor and one more.
bool descriptor_from(PyObject* const* args, Py_ssize_t count, const char* usage, int& fd) {
  if (count != 2) {
    PyErr_SetString(PyExc_TypeError, usage);
    return false;
  }
  if (args[0] == Py_None) {  // closed by a signal handler, or another thread, since it was looked at
    PyErr_SetString(PyExc_OSError, "handle is closed");
    return false;
  }
  const long number = PyLong_AsLong(args[0]);
  if (number == -1 && PyErr_Occurred() != nullptr) return false;
  fd = static_cast<int>(number);
  return true;
}

// A direction belongs to the thread that came first, whose progress is kept in the object; so a signal handler in it can tell, which uses the connection while the call that
// it has interrupted is in the middle of a message. Other threads at the same time have always got pieces of messages, and do; they do not get at its progress.
struct Use {
  Direction* direction;  // nullptr: another thread's
  bool outermost;
};

Use begin_use(Direction& d) {
  const unsigned long me = PyThread_get_thread_ident();
  if (d.at != forks && d.user != me) d.user = 0;  // that thread is not in this process
  d.at = forks;
  const Use use = {d.user == 0 || d.user == me ? &d : nullptr, d.user == 0};
  if (use.outermost) d.user = me;
  return use;
}

void end_use(const Use& use) {
  if (use.outermost) use.direction->user = 0;
}

PyObject* refuse_handler(const char* does) {
  return PyErr_Format(PyExc_OSError,
                      "a signal handler cannot %s over a connection while the call that it has interrupted is in the "
                      "middle of a message; let it set a flag instead",
                      does);
}

PyObject* raise_for(stream::Result result, const Arrival& a) {
  if (result == stream::Result::kError && PyErr_Occurred() == nullptr) return PyErr_SetFromErrno(PyExc_OSError);
  if (result != stream::Result::kEnd) return nullptr;
  if (a.head.bytes == 0)
    PyErr_SetNone(PyExc_EOFError);
  else
    PyErr_SetString(PyExc_OSError, "got end of file during message");
  return nullptr;
}

PyObject* stream_receive(PyObject* self, PyObject* const* args, Py_ssize_t count) {
  int fd = -1;
  if (!descriptor_from(args, count, "receive(fd, maxlength)", fd)) return nullptr;
  size_t longest = PY_SSIZE_T_MAX;
  if (args[1] != Py_None) {
    const Py_ssize_t maxlength = PyLong_AsSsize_t(args[1]);
    if (maxlength == -1 && PyErr_Occurred() != nullptr) return nullptr;
    longest = static_cast<size_t>(maxlength);
  }
  StreamObject* s = stream_of(self);
  const Use use = begin_use(s->receiving);
  if (use.direction != nullptr && !use.outermost && s->arrival.head.bytes != 0) return refuse_handler("receive");
  Arrival others;
  Arrival& a = use.direction != nullptr ? s->arrival : others;
  stream::Result result = fill_head(fd, a.head, s->brisk);
  const bool too_long = result == stream::Result::kDone && a.head.size() > longest;
  if (result == stream::Result::kDone && !too_long) result = fill_body(fd, a, s->brisk);
  raise_for(result, a);
  PyObject* body = nullptr;
  if (result == stream::Result::kDone) body = too_long ? Py_NewRef(Py_None) : Py_NewRef(a.body);
  if (result == stream::Result::kDone || result == stream::Result::kEnd || use.direction == nullptr) {
    Py_XDECREF(a.body);
    a = {};
  }
  end_use(use);
  return body;
}

// Of a peer that has gone the next call is told by the kernel.
bool peer_has_gone(int error) { return error == EPIPE || error == ECONNRESET; }

PyObject* stream_send(PyObject* self, PyObject* const* args, Py_ssize_t count) {
  int fd = -1;
  if (!descriptor_from(args, count, "send(fd, data)", fd)) return nullptr;
  StreamObject* s = stream_of(self);
  if (s->cut) {
    PyErr_SetString(
        PyExc_OSError,
        "the sending of a message was interrupted in the middle: no other can follow it; close the connection");
    return nullptr;
  }
  Py_buffer body;
  if (PyObject_GetBuffer(args[1], &body, PyBUF_SIMPLE) < 0) return nullptr;
  stream::Head head = stream::Head::of(static_cast<uint64_t>(body.len));
  const iovec parts[2] = {{head.text, head.bytes}, {body.buf, static_cast<size_t>(body.len)}};
  const Use use = begin_use(s->sending);
  if (use.direction != nullptr && !use.outermost && s->written != 0) {
    PyBuffer_Release(&body);
    return refuse_handler("send");
  }
  size_t others = 0;
  size_t& written = use.direction != nullptr ? s->written : others;
  GilWait gil;
  begin_wait_for_ever(gil);
  gil.wait.begin();
  const stream::Result result = stream::drain(fd, parts, written, gil.wait);
  end_wait(gil);
  const int error = errno;
  PyBuffer_Release(&body);
  const bool failed = result == stream::Result::kError;
  s->cut |= result != stream::Result::kDone && written > 0 && !(failed && peer_has_gone(error));
  written = 0;
  end_use(use);
  if (result == stream::Result::kDone) Py_RETURN_NONE;
  errno = error;
  return failed ? PyErr_SetFromErrno(PyExc_OSError) : nullptr;
}

PyObject* stream_cut(PyObject* self, void*) { return PyBool_FromLong(stream_of(self)->cut ? 1 : 0); }

PyObject* stream_begun(PyObject* self, void*) {
  const StreamObject* s = stream_of(self);
  return PyBool_FromLong(s->arrival.head.bytes != 0 && s->receiving.user == 0 ? 1 : 0);
}

PyMethodDef methods[] = {
    {"receive", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(stream_receive)), METH_FASTCALL,
     "receive(fd, maxlength): the next message, bytes; None if it has more than maxlength, or a length that nobody "
     "writes. EOFError between messages; OSError."},
    {"send", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(stream_send)), METH_FASTCALL,
     "send(fd, data): OSError, also if an earlier one was cut."},
    {nullptr, nullptr, 0, nullptr}};
PyGetSetDef properties[] = {
    {"begun", stream_begun, nullptr,
     "Whether a call was interrupted that had received a part of a message: the next one goes on with it.", nullptr},
    {"cut", stream_cut, nullptr, "Whether a message was sent in part: the other end waits for the rest.", nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr}};
PyType_Slot slots[] = {{Py_tp_new, reinterpret_cast<void*>(stream_new)},
                       {Py_tp_dealloc, reinterpret_cast<void*>(stream_dealloc)},
                       {Py_tp_methods, methods},
                       {Py_tp_getset, properties},
                       {Py_tp_doc, const_cast<char*>("Messages over a descriptor, each behind its length.")},
                       {0, nullptr}};
PyType_Spec spec = {"shoal._native.MessageStream", sizeof(StreamObject), 0, Py_TPFLAGS_DEFAULT, slots};

}  // namespace

bool add_stream_type(PyObject* module) {
  PyObject* type = PyType_FromSpec(&spec);
  const bool added = type != nullptr && PyModule_AddObjectRef(module, "MessageStream", type) == 0;
  Py_XDECREF(type);
  return added;
}

}  // namespace shoal::bindings
