// Floor 8: Channel, what queues are made of.
#include <unistd.h>

#include "bindings/types.hpp"

#include "bindings/codec.hpp"
#include "channel/channel.hpp"

namespace shoal::bindings {

PyTypeObject* channel_type = nullptr;

namespace {

// A queue that foreign code selects on has an eventfd, which is rung by those who put and have it too: who was forked since, or was given it when started.
struct ChannelHandle {
  Handle base;
  int bell_number;  // the eventfd's number plus 1; 0: none
};

Handle* handle(PyObject* self) { return reinterpret_cast<Handle*>(self); }
int bell_of(const Handle* h) { return reinterpret_cast<const ChannelHandle*>(h)->bell_number - 1; }

bool usable(Handle* h) {
  if (!check_held(h)) return false;
  if (!h->closed) return true;
  PyErr_Format(PyExc_ValueError, "Queue %R is closed", reinterpret_cast<PyObject*>(h));
  return false;
}

int channel_init(PyObject* self, PyObject* args, PyObject* kwargs) {
  static const char* names[] = {"maxsize", "joinable", nullptr};
  Py_ssize_t maxsize = 0;
  int joinable = 0;
  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|n$p", const_cast<char**>(names), &maxsize, &joinable)) return -1;
  if (!ensure_attached()) return -1;
  uint32_t index = 0, generation = 0;
  channel::Options options;
  options.maxsize = maxsize > 0 ? static_cast<uint64_t>(maxsize) : 0;
  options.flags = joinable != 0 ? channel::kJoinable : 0;
  if (const arena::Status s = channel::create(options, index, generation); s != arena::Status::kOk) {
    raise_status(s);
    return -1;
  }
  hold_new(handle(self), object::Kind::kChannel, index, generation);
  return 0;
}

// (block, timeout) from positions `first` on or by name. False with TypeError set.
bool wait_arguments(PyObject* const* args, Py_ssize_t count, PyObject* names, Py_ssize_t first, PyObject** obj,
                    int* block, PyObject** timeout) {
  if (count > first + 2) {
    PyErr_Format(PyExc_TypeError, "takes at most %zd positional arguments (%zd given)", first + 2, count);
    return false;
  }
  if (count > 0 && first == 1) *obj = args[0];
  if (count > first) *block = PyObject_IsTrue(args[first]);
  if (count > first + 1) *timeout = args[first + 1];
  const Py_ssize_t named = names != nullptr ? PyTuple_GET_SIZE(names) : 0;
  for (Py_ssize_t i = 0; i < named; ++i) {
    PyObject* name = PyTuple_GET_ITEM(names, i);
    PyObject* value = args[count + i];
    if (PyUnicode_CompareWithASCIIString(name, "block") == 0) {
      *block = PyObject_IsTrue(value);
    } else if (PyUnicode_CompareWithASCIIString(name, "timeout") == 0) {
      *timeout = value;
    } else if (first == 1 && PyUnicode_CompareWithASCIIString(name, "obj") == 0) {
      *obj = value;
    } else {
      PyErr_Format(PyExc_TypeError, "got an unexpected keyword argument '%U'", name);
      return false;
    }
  }
  if (first == 1 && *obj == nullptr) {
    PyErr_SetString(PyExc_TypeError, "missing 1 required positional argument: 'obj'");
    return false;
  }
  return *block >= 0;
}

PyObject* put_object(Handle* h, PyObject* obj, int block, PyObject* timeout) {
  GilWait gil;
  if (!usable(h) || !begin_wait(gil, block != 0, timeout)) return nullptr;
  Outgoing out;
  if (!encode(out, obj)) return nullptr;
  const channel::Result r = channel::put(h->index, out.message, gil.wait, bell_of(h));
  end_wait(gil);
  release(out, r == channel::Result::kDone);
  switch (r) {
    case channel::Result::kDone:
      Py_RETURN_NONE;
    case channel::Result::kFull:
    case channel::Result::kTimeout:
      return raise_from("queue", "Full", nullptr);
    case channel::Result::kNoMemory:
      return raise_status(arena::Status::kNoMemory);
    default:
      return nullptr;  // interrupted: the exception is set
  }
}

PyObject* channel_put(PyObject* self, PyObject* const* args, Py_ssize_t count, PyObject* names) {
  PyObject *obj = nullptr, *timeout = nullptr;
  int block = 1;
  if (!wait_arguments(args, count, names, 1, &obj, &block, &timeout)) return nullptr;
  return put_object(handle(self), obj, block, timeout);
}

PyObject* channel_put_nowait(PyObject* self, PyObject* const* args, Py_ssize_t count, PyObject* names) {
  const Py_ssize_t named = names != nullptr ? PyTuple_GET_SIZE(names) : 0;
  if (count + named != 1 || (named == 1 && PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(names, 0), "obj") != 0)) {
    PyErr_SetString(PyExc_TypeError, "put_nowait() takes exactly one argument, 'obj'");
    return nullptr;
  }
  return put_object(handle(self), args[0], 0, nullptr);
}

PyObject* get_object(Handle* h, int block, PyObject* timeout) {
  GilWait gil;
  if (!usable(h) || !begin_wait(gil, block != 0, timeout)) return nullptr;
  Incoming in;
  in.taken.buffer = in.stack;
  const channel::Result r = channel::get(h->index, in.taken, gil.wait, bell_of(h));
  end_wait(gil);
  switch (r) {
    case channel::Result::kDone:
      return decode(in);
    case channel::Result::kEmpty:
    case channel::Result::kTimeout:
      return raise_from("queue", "Empty", nullptr);
    case channel::Result::kNoMemory:
      return raise_status(arena::Status::kSystem);  // no address space to look at the message
    default:
      return nullptr;
  }
}

PyObject* channel_get(PyObject* self, PyObject* const* args, Py_ssize_t count, PyObject* names) {
  PyObject *none = nullptr, *timeout = nullptr;
  int block = 1;
  if ((count != 0 || names != nullptr) && !wait_arguments(args, count, names, 0, &none, &block, &timeout))
    return nullptr;
  return get_object(handle(self), block, timeout);
}

PyObject* channel_get_nowait(PyObject* self, PyObject*) { return get_object(handle(self), 0, nullptr); }

PyObject* channel_await(PyObject* self, PyObject* timeout) {
  GilWait gil;
  if (!usable(handle(self)) || !begin_wait(gil, true, timeout)) return nullptr;
  const channel::Result r = channel::await(handle(self)->index, gil.wait, &handle(self)->closed);
  end_wait(gil);
  return r == channel::Result::kInterrupted ? nullptr : PyBool_FromLong(r == channel::Result::kDone);
}

PyObject* channel_qsize(PyObject* self, PyObject*) {
  if (!check_held(handle(self))) return nullptr;
  return PyLong_FromUnsignedLong(channel::length(channel::at(handle(self)->index)->ring));
}

PyObject* channel_empty(PyObject* self, PyObject*) {
  if (!check_held(handle(self))) return nullptr;
  return PyBool_FromLong(channel::is_empty(channel::at(handle(self)->index)->ring));
}

PyObject* channel_full(PyObject* self, PyObject*) {
  if (!check_held(handle(self))) return nullptr;
  const channel::Channel& c = *channel::at(handle(self)->index);
  return PyBool_FromLong(c.maxsize != 0 && channel::length(c.ring) >= c.maxsize);
}

PyObject* channel_task_done(PyObject* self, PyObject*) {
  if (!check_held(handle(self))) return nullptr;
  GilWait gil;
  begin_wait_for_ever(gil);
  const bool counted = channel::task_done(handle(self)->index, gil.wait);
  end_wait(gil);
  if (counted) Py_RETURN_NONE;
  if (PyErr_Occurred() == nullptr) PyErr_SetString(PyExc_ValueError, "task_done() called too many times");
  return nullptr;
}

PyObject* channel_join(PyObject* self, PyObject*) {
  if (!check_held(handle(self))) return nullptr;
  GilWait gil;
  begin_wait_for_ever(gil);
  const channel::Result r = channel::join(handle(self)->index, gil.wait);
  end_wait(gil);
  if (r != channel::Result::kDone) return nullptr;
  Py_RETURN_NONE;
}

PyObject* channel_close(PyObject* self, PyObject*) {
  handle(self)->closed = true;
  Py_RETURN_NONE;
}

PyObject* channel_set_bell(PyObject* self, PyObject* descriptor) {
  const long fd = PyLong_AsLong(descriptor);
  if (fd == -1 && PyErr_Occurred() != nullptr) return nullptr;
  int& number = reinterpret_cast<ChannelHandle*>(self)->bell_number;
  if (number != 0) close(number - 1);
  number = static_cast<int>(fd) + 1;
  Py_RETURN_NONE;
}

// Only where there is a bell.
PyObject* channel_arm(PyObject* self, PyObject*) {
  GilWait gil;
  if (!usable(handle(self)) || bell_of(handle(self)) < 0)
    return PyErr_Occurred() != nullptr ? nullptr : Py_NewRef(Py_None);
  begin_wait_for_ever(gil);
  channel::arm(handle(self)->index, channel::kArmedAlways, bell_of(handle(self)), gil.wait);
  end_wait(gil);
  if (PyErr_Occurred() != nullptr) return nullptr;
  Py_RETURN_NONE;
}

PyObject* channel_quieten(PyObject* self, PyObject*) {
  if (!check_held(handle(self))) return nullptr;
  if (bell_of(handle(self)) >= 0) channel::silence(*channel::at(handle(self)->index), bell_of(handle(self)));
  Py_RETURN_NONE;
}

PyObject* channel_bell(PyObject* self, void*) { return PyLong_FromLong(bell_of(handle(self))); }

void channel_dealloc(PyObject* self) {
  if (const int bell = bell_of(handle(self)); bell >= 0) close(bell);
  reinterpret_cast<destructor>(PyType_GetSlot(handle_type, Py_tp_dealloc))(self);
}

PyObject* channel_give_up(PyObject* self, PyObject*) {
  if (!check_held(handle(self))) return nullptr;
  __atomic_store_n(&handle(self)->closed, true, __ATOMIC_SEQ_CST);
  channel::rouse(handle(self)->index);
  Py_RETURN_NONE;
}

PyObject* channel_maxsize(PyObject* self, void*) {
  if (!check_held(handle(self))) return nullptr;
  return PyLong_FromUnsignedLongLong(channel::at(handle(self)->index)->maxsize);
}
PyObject* channel_closed(PyObject* self, void*) { return PyBool_FromLong(handle(self)->closed); }

PyMethodDef methods[] = {
    {"put", reinterpret_cast<PyCFunction>(reinterpret_cast<void*>(channel_put)), METH_FASTCALL | METH_KEYWORDS,
     "put($self, /, obj, block=True, timeout=None)\n--\n\nPut an item. ``timeout`` is in seconds; queue.Full when it "
     "passed."},
    {"put_nowait", reinterpret_cast<PyCFunction>(reinterpret_cast<void*>(channel_put_nowait)),
     METH_FASTCALL | METH_KEYWORDS, "put_nowait($self, /, obj)\n--\n\nThe same as put(obj, block=False)."},
    {"get", reinterpret_cast<PyCFunction>(reinterpret_cast<void*>(channel_get)), METH_FASTCALL | METH_KEYWORDS,
     "get($self, /, block=True, timeout=None)\n--\n\nTake an item. ``timeout`` is in seconds; queue.Empty when it "
     "passed."},
    {"get_nowait", channel_get_nowait, METH_NOARGS, "get_nowait($self, /)\n--\n\nThe same as get(block=False)."},
    {"_await", channel_await, METH_O, "_await(seconds or None): whether there is a message by then; it stays."},
    {"qsize", channel_qsize, METH_NOARGS, "qsize($self, /)\n--\n\nHow many items there are now."},
    {"empty", channel_empty, METH_NOARGS, "empty($self, /)\n--\n\nWhether there is no item now."},
    {"full", channel_full, METH_NOARGS, "full($self, /)\n--\n\nWhether there is no room for another item now."},
    {"_task_done", channel_task_done, METH_NOARGS, "Joinable: one message taken has been dealt with."},
    {"_join", channel_join, METH_NOARGS, "Joinable: waits until every message put has been dealt with."},
    {"_set_bell", channel_set_bell, METH_O, "_set_bell(eventfd): takes the descriptor over."},
    {"_arm", channel_arm, METH_NOARGS,
     "From now on whoever puts and has the bell rings it; rings if there is a message."},
    {"_quieten", channel_quieten, METH_NOARGS, "Silences the bell if there is no message."},
    {"_give_up", channel_give_up, METH_NOARGS,
     "close(), and an _await() of this handle in another thread returns False."},
    {"close", channel_close, METH_NOARGS, "close($self, /)\n--\n\nThis process puts and gets no more."},
    {nullptr, nullptr, 0, nullptr}};
PyGetSetDef getset[] = {{"_maxsize", channel_maxsize, nullptr, "Messages; 0: unbounded.", nullptr},
                        {"_bell", channel_bell, nullptr, "An eventfd; -1: none.", nullptr},
                        {"_closed", channel_closed, nullptr, nullptr, nullptr},
                        {nullptr, nullptr, nullptr, nullptr, nullptr}};
PyType_Slot slots[] = {
    {Py_tp_init, reinterpret_cast<void*>(channel_init)},
    {Py_tp_new, reinterpret_cast<void*>(PyType_GenericNew)},
    {Py_tp_dealloc, reinterpret_cast<void*>(channel_dealloc)},
    {Py_tp_methods, methods},
    {Py_tp_getset, getset},
    {Py_tp_doc, const_cast<char*>("Channel(maxsize=0, *, joinable=False): messages, first in, first out.")},
    {0, nullptr}};
PyType_Spec spec = {"shoal._native.Channel", sizeof(ChannelHandle), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE, slots};

}  // namespace

bool add_channel_type(PyObject* module) {
  channel_type =
      reinterpret_cast<PyTypeObject*>(PyType_FromSpecWithBases(&spec, reinterpret_cast<PyObject*>(handle_type)));
  if (channel_type == nullptr) return false;
  register_kind(channel_type, object::Kind::kChannel);
  return PyModule_AddObjectRef(module, "Channel", reinterpret_cast<PyObject*>(channel_type)) == 0;
}

}  // namespace shoal::bindings
