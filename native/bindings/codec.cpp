#include "bindings/codec.hpp"

#include <cstring>

#include "bindings/blob_type.hpp"

namespace shoal::bindings {

namespace {

PyObject* dumps_ = nullptr;  // obj -> (bytes, buffers)
PyObject* loads_ = nullptr;  // (bytes-like, buffers) -> obj

constexpr Py_ssize_t kTupleMost = 16;
constexpr int kDepthMost = 3;
constexpr uint64_t kBufferAlign = 64;

// --- the tagged stream ------------------------------------------------------------------------------------------------

enum class Fit { kYes, kNo };

struct Writer {
  char* at;
  char* end;
  bool room(size_t n) const { return static_cast<size_t>(end - at) >= n; }
  void tag(char c) { *at++ = c; }
  template <class T>
  void value(T v) {
    std::memcpy(at, &v, sizeof v);
    at += sizeof v;
  }
};

Fit write(Writer& w, PyObject* obj, int depth) {
  if (!w.room(16)) return Fit::kNo;
  PyTypeObject* type = Py_TYPE(obj);
  if (type == &PyLong_Type) {
    int overflow = 0;
    const long long v = PyLong_AsLongLongAndOverflow(obj, &overflow);
    if (overflow != 0) return Fit::kNo;
    if (v == static_cast<int32_t>(v)) {
      w.tag('j');
      w.value(static_cast<int32_t>(v));
    } else {
      w.tag('i');
      w.value(static_cast<int64_t>(v));
    }
    return Fit::kYes;
  }
  if (type == &PyFloat_Type) {
    w.tag('d');
    w.value(PyFloat_AS_DOUBLE(obj));
    return Fit::kYes;
  }
  if (obj == Py_None || obj == Py_True || obj == Py_False) {
    w.tag(obj == Py_None ? 'N' : obj == Py_True ? 'T' : 'F');
    return Fit::kYes;
  }
  if (type == &PyUnicode_Type || type == &PyBytes_Type) {
    const char* data = nullptr;
    Py_ssize_t n = 0;
    if (type == &PyBytes_Type) {
      data = PyBytes_AS_STRING(obj);
      n = PyBytes_GET_SIZE(obj);
    } else {
      data = PyUnicode_AsUTF8AndSize(obj, &n);
      if (data == nullptr) {  // lone surrogates: pickle knows what to do with them
        PyErr_Clear();
        return Fit::kNo;
      }
    }
    if (!w.room(static_cast<size_t>(n) + 16)) return Fit::kNo;
    w.tag(type == &PyBytes_Type ? 'b' : 's');
    w.value(static_cast<uint32_t>(n));
    std::memcpy(w.at, data, static_cast<size_t>(n));
    w.at += n;
    return Fit::kYes;
  }
  if (type == &PyTuple_Type && depth < kDepthMost && PyTuple_GET_SIZE(obj) <= kTupleMost) {
    const Py_ssize_t n = PyTuple_GET_SIZE(obj);
    w.tag('t');
    w.value(static_cast<uint8_t>(n));
    for (Py_ssize_t i = 0; i < n; ++i)
      if (const Fit fit = write(w, PyTuple_GET_ITEM(obj, i), depth + 1); fit != Fit::kYes) return fit;
    return Fit::kYes;
  }
  return Fit::kNo;
}

struct Reader {
  const char* at;
  template <class T>
  T value() {
    T v;
    std::memcpy(&v, at, sizeof v);
    at += sizeof v;
    return v;
  }
};

PyObject* read(Reader& r) {
  switch (*r.at++) {
    case 'j':
      return PyLong_FromLong(r.value<int32_t>());
    case 'i':
      return PyLong_FromLongLong(r.value<int64_t>());
    case 'd':
      return PyFloat_FromDouble(r.value<double>());
    case 'N':
      return Py_NewRef(Py_None);
    case 'T':
      return Py_NewRef(Py_True);
    case 'F':
      return Py_NewRef(Py_False);
    case 's': {
      const auto n = r.value<uint32_t>();
      r.at += n;
      return PyUnicode_DecodeUTF8(r.at - n, n, nullptr);
    }
    case 'b': {
      const auto n = r.value<uint32_t>();
      r.at += n;
      return PyBytes_FromStringAndSize(r.at - n, n);
    }
    case 't': {
      const auto n = r.value<uint8_t>();
      PyObject* tuple = PyTuple_New(n);
      for (uint8_t i = 0; tuple != nullptr && i < n; ++i) {
        PyObject* item = read(r);
        if (item == nullptr) {
          Py_CLEAR(tuple);
        } else {
          PyTuple_SET_ITEM(tuple, i, item);
        }
      }
      return tuple;
    }
    default:
      PyErr_SetString(PyExc_RuntimeError, "a message in shoal's shared memory is damaged");
      return nullptr;
  }
}

// --- blobs ------------------------------------------------------------------------------------------------------------

char* new_blob(Outgoing& out, uint64_t bytes, const Mentions* mentions) {
  blob::Name name;
  const uint32_t count = mentions != nullptr ? mentions->count : 0;
  if (const arena::Status s = blob::allocate(bytes, count, name); s != arena::Status::kOk) {
    raise_status(s);
    return nullptr;
  }
  blob::Head* h = blob::head(name);
  if (count != 0) {
    static_assert(sizeof(Mentions::Entry) == sizeof(blob::Mention));
    std::memcpy(blob::mentions(h), mentions->entries, count * sizeof(blob::Mention));
    blob::set_listed(name);
  }
  out.message.blob = name;
  out.message.blob_bytes = bytes;
  return blob::payload(h);
}

bool encode_flat(Outgoing& out, Encoding encoding, const char* data, size_t n, PyObject* owner) {
  out.message.flags = static_cast<uint16_t>(encoding);
  if (n <= channel::kInline) {
    out.message.data = data;
    out.message.bytes = static_cast<uint32_t>(n);
    out.keep = Py_XNewRef(owner);
    return true;
  }
  char* payload = new_blob(out, n, nullptr);
  if (payload == nullptr) return false;
  std::memcpy(payload, data, n);
  return true;
}

// A pickle with buffers: u64 count of buffers, u64 length of the pickle, u64 length of each buffer; then the pickle, then the buffers, each on a cache line.
bool encode_buffers(Outgoing& out, PyObject* pickle, PyObject* buffers, const Mentions& mentions) {
  PyObject* list = PySequence_Fast(buffers, "dumps() returns (bytes, sequence of buffers)");
  if (list == nullptr) return false;
  const Py_ssize_t count = PySequence_Fast_GET_SIZE(list);
  auto* views = static_cast<Py_buffer*>(PyMem_Calloc(static_cast<size_t>(count) + 1, sizeof(Py_buffer)));
  bool ok = views != nullptr;
  uint64_t total = arena::align(16 + 8 * static_cast<uint64_t>(count) + static_cast<uint64_t>(PyBytes_GET_SIZE(pickle)),
                                kBufferAlign);
  Py_ssize_t got = 0;
  for (; ok && got < count; ++got) {
    ok = PyObject_GetBuffer(PySequence_Fast_GET_ITEM(list, got), &views[got], PyBUF_SIMPLE) == 0;
    if (!ok) break;
    total += arena::align(static_cast<uint64_t>(views[got].len), kBufferAlign);
  }
  char* payload = ok ? new_blob(out, total, &mentions) : nullptr;
  if (payload != nullptr) {
    auto* table = reinterpret_cast<uint64_t*>(payload);
    table[0] = static_cast<uint64_t>(count);
    table[1] = static_cast<uint64_t>(PyBytes_GET_SIZE(pickle));
    char* at = payload + 16 + 8 * count;
    std::memcpy(at, PyBytes_AS_STRING(pickle), static_cast<size_t>(PyBytes_GET_SIZE(pickle)));
    at = payload + arena::align(16 + 8 * static_cast<uint64_t>(count) + table[1], kBufferAlign);
    for (Py_ssize_t i = 0; i < count; ++i) {
      table[2 + i] = static_cast<uint64_t>(views[i].len);
      std::memcpy(at, views[i].buf, static_cast<size_t>(views[i].len));
      at += arena::align(table[2 + i], kBufferAlign);
    }
    out.message.flags = static_cast<uint16_t>(Encoding::kBuffers);
  }
  for (Py_ssize_t i = 0; i < got; ++i) PyBuffer_Release(&views[i]);
  PyMem_Free(views);
  Py_DECREF(list);
  return payload != nullptr;
}

bool encode_pickle(Outgoing& out, PyObject* obj, PyObject* dumps) {
  if (dumps_ == nullptr && PyImport_ImportModule("shoal.reduction") == nullptr) return false;
  if (dumps_ == nullptr) {
    PyErr_SetString(PyExc_RuntimeError, "shoal.reduction has not registered its pickling functions");
    return false;
  }
  Mentions mentions;
  begin_mentions(mentions);
  PyObject* both = PyObject_CallOneArg(dumps != nullptr ? dumps : dumps_, obj);
  bool ok = both != nullptr;
  if (ok) {
    PyObject* pickle = PyTuple_GET_ITEM(both, 0);
    PyObject* buffers = PyTuple_GET_ITEM(both, 1);
    const Py_ssize_t count = PyObject_Length(buffers);
    ok = count >= 0 &&
         ((count == 0 && mentions.count == 0) ? encode_flat(out, Encoding::kPickle, PyBytes_AS_STRING(pickle),
                                                            static_cast<size_t>(PyBytes_GET_SIZE(pickle)), pickle)
                                              : encode_buffers(out, pickle, buffers, mentions));
  }
  Py_XDECREF(both);
  end_mentions(mentions);
  return ok;
}

PyObject* load_pickle(PyObject* data, PyObject* buffers) {
  if (loads_ == nullptr && PyImport_ImportModule("shoal.reduction") == nullptr) return nullptr;
  return PyObject_CallFunctionObjArgs(loads_, data, buffers, nullptr);
}

PyObject* decode_buffers(blob::Name name) {
  PyObject* owner = new_blob_object(name);  // frees the blob when the last view of it has gone
  if (owner == nullptr) return nullptr;
  const char* payload = blob::payload(blob::head(name));
  const auto* table = reinterpret_cast<const uint64_t*>(payload);
  const uint64_t count = table[0];
  uint64_t at = 16 + 8 * count;
  PyObject* pickle = slice_of(owner, at, table[1]);
  PyObject* buffers = PyList_New(static_cast<Py_ssize_t>(count));
  at = arena::align(at + table[1], kBufferAlign);
  for (uint64_t i = 0; pickle != nullptr && buffers != nullptr && i < count; ++i) {
    PyObject* view = slice_of(owner, at, table[2 + i]);
    if (view == nullptr)
      Py_CLEAR(buffers);
    else
      PyList_SET_ITEM(buffers, static_cast<Py_ssize_t>(i), view);
    at += arena::align(table[2 + i], kBufferAlign);
  }
  PyObject* obj = pickle != nullptr && buffers != nullptr ? load_pickle(pickle, buffers) : nullptr;
  Py_XDECREF(pickle);
  Py_XDECREF(buffers);
  Py_DECREF(owner);
  return obj;
}

struct Flat {
  const char* data;
  Py_ssize_t bytes;
};
Flat flat_of(Incoming& in) {
  if (!in.taken.blob.there()) return {in.stack, static_cast<Py_ssize_t>(in.taken.bytes)};
  const blob::Head* h = blob::head(in.taken.blob);
  return {h != nullptr ? blob::payload(const_cast<blob::Head*>(h)) : nullptr,
          h != nullptr ? static_cast<Py_ssize_t>(h->payload_bytes) : 0};
}

void drop_blob(Incoming& in) {
  if (in.taken.blob.there()) blob::free_owned(in.taken.blob, process::mine());
  in.taken.blob = {};
}

Encoding encoding_of(const Incoming& in) { return static_cast<Encoding>(in.taken.flags & 0xff); }

PyObject* set_codec(PyObject*, PyObject* args) {
  PyObject *dumps = nullptr, *loads = nullptr;
  if (!PyArg_ParseTuple(args, "OO", &dumps, &loads)) return nullptr;
  Py_XSETREF(dumps_, Py_NewRef(dumps));
  Py_XSETREF(loads_, Py_NewRef(loads));
  Py_RETURN_NONE;
}

PyObject* is_plain_object(PyObject*, PyObject* obj) { return PyBool_FromLong(is_plain(obj)); }

PyMethodDef functions[] = {{"set_codec", set_codec, METH_VARARGS, "set_codec(dumps, loads)"},
                           {"is_plain", is_plain_object, METH_O, "Whether a message of it needs no pickle."},
                           {nullptr, nullptr, 0, nullptr}};

}  // namespace

bool add_codec(PyObject* module) { return PyModule_AddFunctions(module, functions) == 0; }

char* write_plain(char* at, char* end, PyObject* obj) {
  Writer w{at, end};
  return write(w, obj, 0) == Fit::kYes ? w.at : nullptr;
}

PyObject* read_plain(const char*& at) {
  Reader r{at};
  PyObject* obj = read(r);
  at = r.at;
  return obj;
}

bool is_plain(PyObject* obj) {
  if (Py_TYPE(obj) == &PyBytes_Type || Py_TYPE(obj) == &PyUnicode_Type) return true;
  char room[channel::kInline];
  return write_plain(room, room + sizeof room, obj) != nullptr;
}

bool encode(Outgoing& out, PyObject* obj, PyObject* dumps) {
  Writer w{out.stack, out.stack + sizeof out.stack};
  const Fit fit = write(w, obj, 0);
  if (fit == Fit::kYes) {
    out.message.flags = static_cast<uint16_t>(Encoding::kNative);
    out.message.data = out.stack;
    out.message.bytes = static_cast<uint32_t>(w.at - out.stack);
    return true;
  }
  if (Py_TYPE(obj) == &PyBytes_Type)
    return encode_flat(out, Encoding::kBytes, PyBytes_AS_STRING(obj), static_cast<size_t>(PyBytes_GET_SIZE(obj)), obj);
  if (Py_TYPE(obj) == &PyUnicode_Type) {
    Py_ssize_t n = 0;
    if (const char* text = PyUnicode_AsUTF8AndSize(obj, &n))
      return encode_flat(out, Encoding::kText, text, static_cast<size_t>(n), obj);
    PyErr_Clear();
  }
  return encode_pickle(out, obj, dumps);
}

bool encode_raw(Outgoing& out, const char* data, Py_ssize_t bytes) {
  return encode_flat(out, Encoding::kRaw, data, static_cast<size_t>(bytes), nullptr);
}

void release(Outgoing& out, bool sent) {
  if (!sent && out.message.blob.there()) blob::free_owned(out.message.blob, process::mine());
  Py_CLEAR(out.keep);
}

PyObject* decode(Incoming& in) {
  const Encoding encoding = encoding_of(in);
  if (encoding == Encoding::kBuffers) {
    const blob::Name name = in.taken.blob;
    in.taken.blob = {};
    return decode_buffers(name);
  }
  const Flat flat = flat_of(in);
  if (flat.data == nullptr) return raise_status(arena::Status::kSystem);
  PyObject* obj = nullptr;
  switch (encoding) {
    case Encoding::kNative: {
      Reader r{flat.data};
      obj = read(r);
      break;
    }
    case Encoding::kBytes:
      obj = PyBytes_FromStringAndSize(flat.data, flat.bytes);
      break;
    case Encoding::kText:
      obj = PyUnicode_DecodeUTF8(flat.data, flat.bytes, nullptr);
      break;
    default: {
      PyObject* data = PyBytes_FromStringAndSize(flat.data, flat.bytes);
      drop_blob(in);
      PyObject* none = data != nullptr ? PyTuple_New(0) : nullptr;
      obj = none != nullptr ? load_pickle(data, none) : nullptr;
      Py_XDECREF(none);
      Py_XDECREF(data);
    }
  }
  drop_blob(in);
  return obj;
}

PyObject* decode_bytes(Incoming& in) {
  const Encoding encoding = encoding_of(in);
  if (encoding == Encoding::kRaw || encoding == Encoding::kPickle) {
    const Flat flat = flat_of(in);
    if (flat.data == nullptr) return raise_status(arena::Status::kSystem);
    PyObject* bytes = PyBytes_FromStringAndSize(flat.data, flat.bytes);
    drop_blob(in);
    return bytes;
  }
  // As in the standard library, where every message is a pickle on the wire.
  PyObject* obj = decode(in);
  PyObject* dumps = obj != nullptr ? imported("pickle", "dumps") : nullptr;
  PyObject* bytes = dumps != nullptr ? PyObject_CallOneArg(dumps, obj) : nullptr;
  Py_XDECREF(obj);
  return bytes;
}

Py_ssize_t raw_length(const Incoming& in) {
  return encoding_of(in) == Encoding::kRaw ? flat_of(const_cast<Incoming&>(in)).bytes : -1;
}

bool attach_mentions(const Mentions& mentions, process::Token child) {
  if (child == 0 || mentions.count == 0) return true;
  Outgoing out;
  if (new_blob(out, 0, &mentions) == nullptr) return false;
  blob::give(out.message.blob, process::mine(), process::slot_of(child));
  return true;
}

}  // namespace shoal::bindings
