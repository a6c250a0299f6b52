// Floor 8: ArrayCell: an array under a lock.
//
// Slices of numbers are copied under the lock and turned into objects after it, or the other way round, so that the lock is held for the copy only.
#include <utility>

#include "bindings/cell_type.hpp"

namespace shoal::bindings {

namespace {

Py_ssize_t length(PyObject* self) {
  Cell* c = cell_of(self);
  return check_bound(c) ? PyObject_Length(c->obj) : -1;
}

// Where the number with this index is; nullptr for any other key: the ctypes object is to say what is wrong.
char* place_of(const Cell* c, PyObject* key) {
  if (c->scalar == nullptr || !PyLong_CheckExact(key)) return nullptr;
  Py_ssize_t index = PyLong_AsSsize_t(key);
  if (index == -1 && PyErr_Occurred() != nullptr) {
    PyErr_Clear();
    return nullptr;
  }
  if (index < 0) index += c->length;
  return index >= 0 && index < c->length ? c->at + index * c->scalar->bytes : nullptr;
}

struct Slice {
  Py_ssize_t start, step, count;
};
// Runs __index__ of what is in the slice. False with an exception set.
bool read_slice(const Cell* c, PyObject* key, Slice& slice) {
  Py_ssize_t stop = 0;
  if (PySlice_Unpack(key, &slice.start, &stop, &slice.step) < 0) return false;
  slice.count = PySlice_AdjustIndices(c->length, &slice.start, &stop, slice.step);
  return true;
}

char* begin_of(const Cell* c, const Slice& slice) { return c->at + slice.start * c->scalar->bytes; }
Py_ssize_t stride_of(const Cell* c, const Slice& slice) { return slice.step * c->scalar->bytes; }

// Room for the numbers of a slice, one after the other. What is large comes from the system page by page, and costs more than what it is for: the last of it is kept.
constexpr size_t kWorthKeeping = 32 * 1024, kMostKept = 4 * 1024 * 1024;
struct {
  char* at;
  size_t bytes;
} kept_;

struct Packed {
  char* at;
  size_t bytes;
};

bool take_room(const Cell* c, const Slice& slice, Packed& packed) {
  const size_t bytes = static_cast<size_t>(slice.count * c->scalar->bytes) + 1;
  if (bytes > kWorthKeeping && bytes <= kept_.bytes) {
    packed = {std::exchange(kept_.at, nullptr), std::exchange(kept_.bytes, 0)};
    return true;
  }
  packed = {static_cast<char*>(PyMem_Malloc(bytes)), bytes};
  if (packed.at == nullptr) PyErr_NoMemory();
  return packed.at != nullptr;
}

void give_room(Packed& packed) {
  if (packed.bytes > kWorthKeeping && packed.bytes <= kMostKept && packed.bytes > kept_.bytes) {
    std::swap(packed.at, kept_.at);
    std::swap(packed.bytes, kept_.bytes);
  }
  PyMem_Free(packed.at);
}

PyObject* list_of(const Scalar& scalar, const char* packed, Py_ssize_t count) {
  PyObject* list = PyList_New(count);
  if (list != nullptr && !scalar.fill(list, packed, count)) Py_CLEAR(list);
  return list;
}

PyObject* get_slice(Cell* c, PyObject* key) {
  Slice slice{};
  if (!read_slice(c, key, slice)) return nullptr;
  Packed packed{};
  if (!take_room(c, slice, packed)) return nullptr;
  PyObject* list = nullptr;
  if (enter(c)) {
    c->scalar->gather(begin_of(c, slice), stride_of(c, slice), packed.at, slice.count);
    if (leave(c)) list = list_of(*c->scalar, packed.at, slice.count);
  }
  give_room(packed);
  return list;
}

PyObject* get(PyObject* self, PyObject* key) {
  Cell* c = cell_of(self);
  if (const char* at = place_of(c, key)) {
    if (!enter(c)) return nullptr;
    const Number n = c->scalar->load(at);
    return leave(c) ? c->scalar->object_of(n) : nullptr;
  }
  if (c->scalar != nullptr && PySlice_Check(key)) return get_slice(c, key);
  return enter(c) ? leave_with(c, PyObject_GetItem(c->obj, key)) : nullptr;
}

enum class Set { kDone, kFailed, kNotHere };

// Of a list or tuple of as many numbers as the slice has places; anything else is for the ctypes object.
Set set_slice(Cell* c, PyObject* key, PyObject* values) {
  if (c->scalar == nullptr || !PySlice_Check(key) || (!PyList_CheckExact(values) && !PyTuple_CheckExact(values)))
    return Set::kNotHere;
  Slice slice{};
  if (!read_slice(c, key, slice)) return Set::kFailed;
  if (PySequence_Fast_GET_SIZE(values) != slice.count) return Set::kNotHere;
  Packed packed{};
  if (!take_room(c, slice, packed)) return Set::kFailed;
  Set how = Set::kDone;
  for (Py_ssize_t i = 0; how == Set::kDone && i < slice.count; ++i) {  // no code of Python's runs, so the list stays
    Number n;
    if (c->scalar->parse(PySequence_Fast_GET_ITEM(values, i), n))
      c->scalar->store(packed.at + i * c->scalar->bytes, n);
    else
      how = Set::kNotHere;
  }
  if (how == Set::kDone) {
    if (enter(c)) {
      c->scalar->scatter(begin_of(c, slice), stride_of(c, slice), packed.at, slice.count);
      how = leave(c) ? Set::kDone : Set::kFailed;
    } else {
      how = Set::kFailed;
    }
  }
  give_room(packed);
  return how;
}

int set(PyObject* self, PyObject* key, PyObject* value) {
  Cell* c = cell_of(self);
  if (value == nullptr) {
    PyErr_SetString(PyExc_AttributeError, "__delitem__");  // as the standard library's
    return -1;
  }
  if (char* at = place_of(c, key)) {
    Number n;
    if (c->scalar->parse(value, n)) {
      if (!enter(c)) return -1;
      c->scalar->store(at, n);
      return leave(c) ? 0 : -1;
    }
  }
  if (const Set how = set_slice(c, key, value); how != Set::kNotHere) return how == Set::kDone ? 0 : -1;
  if (!enter(c)) return -1;
  PyObject* done = PyObject_SetItem(c->obj, key, value) == 0 ? Py_NewRef(Py_None) : nullptr;
  done = leave_with(c, done);
  Py_XDECREF(done);
  return done != nullptr ? 0 : -1;
}

PyType_Slot slots[] = {{Py_mp_length, reinterpret_cast<void*>(length)},
                       {Py_mp_subscript, reinterpret_cast<void*>(get)},
                       {Py_mp_ass_subscript, reinterpret_cast<void*>(set)},
                       {Py_tp_doc, const_cast<char*>("A ctypes array with a lock.")},
                       {0, nullptr}};
PyType_Spec spec = {"shoal._native.ArrayCell", sizeof(Cell), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE, slots};

}  // namespace

bool add_array_cell_type(PyObject* module) {
  PyObject* type = PyType_FromSpecWithBases(&spec, reinterpret_cast<PyObject*>(cell_type));
  return type != nullptr && PyModule_AddObjectRef(module, "ArrayCell", type) == 0;
}

}  // namespace shoal::bindings
