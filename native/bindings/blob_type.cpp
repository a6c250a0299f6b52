#include "bindings/blob_type.hpp"

#include "recovery/lifetime.hpp"

namespace shoal::bindings {

namespace {

PyTypeObject* blob_type = nullptr;

struct BlobObject {
  PyObject_HEAD blob::Name name;
  uint32_t owner;  // a forked child's copy of this object frees nothing: the blob is its parent's
};

void blob_dealloc(PyObject* self) {
  auto* b = reinterpret_cast<BlobObject*>(self);
  if (b->name.there() && b->owner == process::mine()) recovery::let_go(b->name, b->owner);
  PyTypeObject* type = Py_TYPE(self);
  type->tp_free(self);
  Py_DECREF(type);
}

int blob_buffer(PyObject* self, Py_buffer* view, int flags) {
  auto* b = reinterpret_cast<BlobObject*>(self);
  blob::Head* h = blob::head(b->name);
  if (h == nullptr) {
    raise_status(arena::Status::kSystem);
    return -1;
  }
  return PyBuffer_FillInfo(view, self, blob::payload(h), static_cast<Py_ssize_t>(h->payload_bytes), 0, flags);
}

PyType_Slot blob_slots[] = {{Py_tp_dealloc, reinterpret_cast<void*>(blob_dealloc)},
                            {Py_bf_getbuffer, reinterpret_cast<void*>(blob_buffer)},
                            {Py_tp_doc, const_cast<char*>("A large payload in shared memory, as received.")},
                            {0, nullptr}};
PyType_Spec blob_spec = {"shoal._native.Blob", sizeof(BlobObject), 0,
                         Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION, blob_slots};

}  // namespace

bool add_blob_type(PyObject* module) {
  blob_type = reinterpret_cast<PyTypeObject*>(PyType_FromSpec(&blob_spec));
  return blob_type != nullptr && PyModule_AddObjectRef(module, "Blob", reinterpret_cast<PyObject*>(blob_type)) == 0;
}

PyObject* new_blob_object(blob::Name name) {
  auto* b = reinterpret_cast<BlobObject*>(blob_type->tp_alloc(blob_type, 0));
  blob::Head* h = blob::head(name);
  if (b == nullptr || h == nullptr) {
    Py_XDECREF(b);
    blob::free_owned(name, process::mine());
    return h == nullptr ? raise_status(arena::Status::kSystem) : nullptr;
  }
  h->birth = arena::header().fork_sequence.load();
  b->name = name;
  b->owner = process::mine();
  return reinterpret_cast<PyObject*>(b);
}

PyObject* slice_of(PyObject* blob_object, uint64_t at, uint64_t bytes) {
  PyObject* whole = PyMemoryView_FromObject(blob_object);
  if (whole == nullptr) return nullptr;
  PyObject* from = PyLong_FromUnsignedLongLong(at);
  PyObject* to = PyLong_FromUnsignedLongLong(at + bytes);
  PyObject* slice = from != nullptr && to != nullptr ? PySlice_New(from, to, nullptr) : nullptr;
  PyObject* view = slice != nullptr ? PyObject_GetItem(whole, slice) : nullptr;
  Py_XDECREF(slice);
  Py_XDECREF(from);
  Py_XDECREF(to);
  Py_DECREF(whole);
  return view;
}

}  // namespace shoal::bindings
