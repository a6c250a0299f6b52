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

constexpr uint64_t kBrisk = 1'000'000;  // nanoseconds that a brisk message takes to come, at most

// What has come of a message.
struct Arrival {
  stream::Head head;
  PyObject* body = nullptr;  // bytes: as many as are given to it so far
  size_t filled = 0;         // of them
};

struct StreamObject {
  PyObject_HEAD Arrival arrival;
  bool brisk;  // the last message was not waited for long
  bool cut;    // a message has been sent in part: another would be taken for the rest of it
};

StreamObject* stream_of(PyObject* self) { return reinterpret_cast<StreamObject*>(self); }

PyObject* stream_new(PyTypeObject* type, PyObject*, PyObject*) {
  PyObject* self = type->tp_alloc(type, 0);
  if (self == nullptr) return nullptr;
  stream_of(self)->arrival = {};
  stream_of(self)->brisk = false;
  stream_of(self)->cut = false;
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
    if (const stream::Result r = fill(fd, PyBytes_AS_STRING(a.body), room, a.filled, brisk); r != stream::Result::kDone)
      return r;
  }
  return stream::Result::kDone;
}

// The thread that receives has the arrival to itself meanwhile. Two at once have always got pieces of messages; they shall not get at each other's memory.
Arrival taken_from(StreamObject* s) {
  const Arrival a = s->arrival;
  s->arrival = {};
  return a;
}

void keep(StreamObject* s, const Arrival& a) {
  if (s->arrival.head.bytes == 0)
    s->arrival = a;
  else
    Py_XDECREF(a.body);
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
  if (count != 2) {
    PyErr_SetString(PyExc_TypeError, "receive(fd, maxlength)");
    return nullptr;
  }
  const long fd = PyLong_AsLong(args[0]);
  if (fd == -1 && PyErr_Occurred() != nullptr) return nullptr;
  size_t longest = PY_SSIZE_T_MAX;
  if (args[1] != Py_None) {
    const Py_ssize_t maxlength = PyLong_AsSsize_t(args[1]);
    if (maxlength == -1 && PyErr_Occurred() != nullptr) return nullptr;
    longest = static_cast<size_t>(maxlength);
  }
  Arrival a = taken_from(stream_of(self));
  bool& brisk = stream_of(self)->brisk;
  stream::Result result = fill_head(static_cast<int>(fd), a.head, brisk);
  if (result == stream::Result::kDone) {
    if (a.head.size() > longest) {
      Py_XDECREF(a.body);
      Py_RETURN_NONE;
    }
    result = fill_body(static_cast<int>(fd), a, brisk);
  }
  if (result == stream::Result::kDone) return a.body;
  raise_for(result, a);
  if (result == stream::Result::kEnd)
    Py_XDECREF(a.body);
  else
    keep(stream_of(self), a);
  return nullptr;
}

// Of a peer that has gone the next call is told by the kernel.
bool peer_has_gone(int error) { return error == EPIPE || error == ECONNRESET; }

PyObject* stream_send(PyObject* self, PyObject* const* args, Py_ssize_t count) {
  if (count != 2) {
    PyErr_SetString(PyExc_TypeError, "send(fd, data)");
    return nullptr;
  }
  const long fd = PyLong_AsLong(args[0]);
  if (fd == -1 && PyErr_Occurred() != nullptr) return nullptr;
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
  size_t written = 0;
  GilWait gil;
  begin_wait_for_ever(gil);
  gil.wait.begin();
  const stream::Result result = stream::drain(static_cast<int>(fd), parts, written, gil.wait);
  end_wait(gil);
  const int error = errno;
  PyBuffer_Release(&body);
  if (result == stream::Result::kDone) Py_RETURN_NONE;
  const bool failed = result == stream::Result::kError;
  s->cut = written > 0 && !(failed && peer_has_gone(error));
  errno = error;
  return failed ? PyErr_SetFromErrno(PyExc_OSError) : nullptr;
}

PyObject* stream_cut(PyObject* self, void*) { return PyBool_FromLong(stream_of(self)->cut ? 1 : 0); }

PyMethodDef methods[] = {
    {"receive", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(stream_receive)), METH_FASTCALL,
     "receive(fd, maxlength): the next message, bytes; None if it has more than maxlength, or a length that nobody "
     "writes. EOFError between messages; OSError."},
    {"send", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(stream_send)), METH_FASTCALL,
     "send(fd, data): OSError, also if an earlier one was cut."},
    {nullptr, nullptr, 0, nullptr}};
PyGetSetDef properties[] = {
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
