#include "bindings/cell_type.hpp"

#include <algorithm>

#include "bindings/types.hpp"

namespace shoal::bindings {

PyTypeObject* cell_type = nullptr;

namespace {

struct {
  PyObject *enter, *exit, *acquire, *release;
} names_;

// Whether a subclass of a native lock has left its operations as they are.
bool is_plain(PyObject* lock) {
  if (!is_native_lock(lock)) return false;
  auto* base = reinterpret_cast<PyObject*>(PyObject_TypeCheck(lock, rlock_type) ? rlock_type : lock_type);
  for (const char* name : {"acquire", "release", "__enter__", "__exit__"}) {
    PyObject* its = PyObject_GetAttrString(reinterpret_cast<PyObject*>(Py_TYPE(lock)), name);
    PyObject* ours = PyObject_GetAttrString(base, name);
    const bool same = its != nullptr && its == ours;
    Py_XDECREF(its);
    Py_XDECREF(ours);
    if (!same) {
      PyErr_Clear();
      return false;
    }
  }
  return true;
}

// __enter__ and __exit__ where there are both: a semaphore gives back what a killed process took in a with statement, and only that.
LockKind kind_of(PyObject* lock) {
  if (is_plain(lock)) return LockKind::kNative;
  auto* type = reinterpret_cast<PyObject*>(Py_TYPE(lock));
  return PyObject_HasAttr(type, names_.enter) != 0 && PyObject_HasAttr(type, names_.exit) != 0 ? LockKind::kWith
                                                                                               : LockKind::kBare;
}

PyObject* call_exit(PyObject* lock, PyObject* const* args, Py_ssize_t count) {
  PyObject* all[4] = {lock, Py_None, Py_None, Py_None};
  std::copy(args, args + std::min<Py_ssize_t>(count, 3), all + 1);
  return PyObject_VectorcallMethod(names_.exit, all, 4, nullptr);
}

// Where the object's memory is, if there is as much as it should be. False with an exception set.
bool find_memory(PyObject* obj, Py_ssize_t bytes, char*& at) {
  Py_buffer view;
  if (PyObject_GetBuffer(obj, &view, PyBUF_WRITABLE) < 0) return false;
  at = static_cast<char*>(view.buf);
  const bool enough = view.len >= bytes;
  PyBuffer_Release(&view);
  if (!enough) PyErr_SetString(PyExc_ValueError, "the object is smaller than its type");
  return enough;
}

PyObject* cell_bind(PyObject* self, PyObject* args) {
  Cell* c = cell_of(self);
  PyObject *obj = nullptr, *lock = nullptr;
  const char* code = "";
  Py_ssize_t length = 0;
  if (!PyArg_ParseTuple(args, "OOsn", &obj, &lock, &code, &length)) return nullptr;
  if (c->lock_kind != LockKind::kNone) {  // another thread may be in the middle of an operation
    PyErr_SetString(PyExc_ValueError, "this shared object has been initialised already");
    return nullptr;
  }
  const Scalar* scalar = scalar_of(code[0]);
  char* at = nullptr;
  if (scalar != nullptr && !find_memory(obj, length * scalar->bytes, at)) return nullptr;
  c->obj = Py_NewRef(obj);
  c->lock = Py_NewRef(lock);
  c->scalar = scalar;
  c->at = at;
  c->length = length;
  c->lock_kind = kind_of(lock);
  Py_RETURN_NONE;
}

int cell_traverse(PyObject* self, visitproc visit, void* arg) {
  Py_VISIT(Py_TYPE(self));
  Py_VISIT(cell_of(self)->obj);
  Py_VISIT(cell_of(self)->lock);
  return 0;
}

int cell_clear(PyObject* self) {
  cell_of(self)->lock_kind = LockKind::kNone;
  cell_of(self)->scalar = nullptr;
  Py_CLEAR(cell_of(self)->obj);
  Py_CLEAR(cell_of(self)->lock);
  return 0;
}

void cell_dealloc(PyObject* self) {
  PyObject_GC_UnTrack(self);
  cell_clear(self);
  PyTypeObject* type = Py_TYPE(self);
  type->tp_free(self);
  Py_DECREF(type);
}

PyObject* get_obj(PyObject* self, PyObject*) {
  return check_bound(cell_of(self)) ? Py_NewRef(cell_of(self)->obj) : nullptr;
}
PyObject* get_lock(PyObject* self, PyObject*) {
  return check_bound(cell_of(self)) ? Py_NewRef(cell_of(self)->lock) : nullptr;
}
PyObject* obj_attribute(PyObject* self, void*) { return get_obj(self, nullptr); }
PyObject* lock_attribute(PyObject* self, void*) { return get_lock(self, nullptr); }

PyObject* cell_enter(PyObject* self, PyObject*) {
  Cell* c = cell_of(self);
  if (!check_bound(c)) return nullptr;
  if (c->lock_kind != LockKind::kNative) return PyObject_CallMethodNoArgs(c->lock, names_.enter);
  if (!enter_lock(c->lock)) return nullptr;
  Py_RETURN_TRUE;
}

PyObject* cell_exit(PyObject* self, PyObject* const* args, Py_ssize_t count) {
  Cell* c = cell_of(self);
  if (!check_bound(c)) return nullptr;
  if (c->lock_kind != LockKind::kNative) return call_exit(c->lock, args, count);
  if (!exit_lock(c->lock)) return nullptr;
  Py_RETURN_NONE;
}

// acquire and release are the lock's own.
PyObject* get_acquire(PyObject* self, void*) {
  return check_bound(cell_of(self)) ? PyObject_GetAttr(cell_of(self)->lock, names_.acquire) : nullptr;
}
PyObject* get_release(PyObject* self, void*) {
  return check_bound(cell_of(self)) ? PyObject_GetAttr(cell_of(self)->lock, names_.release) : nullptr;
}

// Nobody's lock is taken: a view is memory, as it is.
int cell_buffer(PyObject* self, Py_buffer* view, int flags) {
  if (!check_bound(cell_of(self))) return -1;
  return PyObject_GetBuffer(cell_of(self)->obj, view, flags);
}

PyMethodDef methods[] = {
    {"_bind", cell_bind, METH_VARARGS, "_bind(obj, lock, code, length)"},
    {"get_obj", get_obj, METH_NOARGS, "get_obj($self, /)\n--\n\nThe ctypes object, without the lock."},
    {"get_lock", get_lock, METH_NOARGS, "get_lock($self, /)\n--\n\nThe lock."},
    {"__enter__", cell_enter, METH_NOARGS, "__enter__($self, /)\n--\n\nTake the lock."},
    {"__exit__", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(cell_exit)), METH_FASTCALL,
     "__exit__($self, /, *args)\n--\n\nLet go of the lock."},
    {nullptr, nullptr, 0, nullptr}};
PyGetSetDef attributes[] = {{"_obj", obj_attribute, nullptr, nullptr, nullptr},
                            {"_lock", lock_attribute, nullptr, nullptr, nullptr},
                            {"acquire", get_acquire, nullptr, "The lock's.", nullptr},
                            {"release", get_release, nullptr, "The lock's.", nullptr},
                            {nullptr, nullptr, nullptr, nullptr, nullptr}};
PyType_Slot slots[] = {{Py_tp_dealloc, reinterpret_cast<void*>(cell_dealloc)},
                       {Py_tp_traverse, reinterpret_cast<void*>(cell_traverse)},
                       {Py_tp_clear, reinterpret_cast<void*>(cell_clear)},
                       {Py_tp_free, reinterpret_cast<void*>(PyObject_GC_Del)},
                       {Py_bf_getbuffer, reinterpret_cast<void*>(cell_buffer)},
                       {Py_tp_methods, methods},
                       {Py_tp_getset, attributes},
                       {Py_tp_doc, const_cast<char*>("A ctypes object with a lock.")},
                       {0, nullptr}};
PyType_Spec spec = {"shoal._native.Cell", sizeof(Cell), 0,
                    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC, slots};

}  // namespace

bool check_bound(const Cell* c) {
  if (c->lock_kind != LockKind::kNone) return true;
  PyErr_SetString(PyExc_ValueError,
                  "this shared object has not been initialised: its class must call super().__init__()");
  return false;
}

bool enter_foreign_lock(Cell* c) {
  if (!check_bound(c)) return false;
  PyObject* outcome =
      PyObject_CallMethodNoArgs(c->lock, c->lock_kind == LockKind::kWith ? names_.enter : names_.acquire);
  Py_XDECREF(outcome);
  return outcome != nullptr;
}

bool exit_foreign_lock(Cell* c) {
  PyObject* outcome = c->lock_kind == LockKind::kWith ? call_exit(c->lock, nullptr, 0)
                                                      : PyObject_CallMethodNoArgs(c->lock, names_.release);
  Py_XDECREF(outcome);
  return outcome != nullptr;
}

PyObject* leave_with(Cell* c, PyObject* result) {
  if (result != nullptr) {
    if (leave(c)) return result;
    Py_DECREF(result);
    return nullptr;
  }
  PyObject *type = nullptr, *value = nullptr, *traceback = nullptr;
  PyErr_Fetch(&type, &value, &traceback);
  if (!leave(c)) PyErr_Clear();
  PyErr_Restore(type, value, traceback);
  return nullptr;
}

bool add_cell_type(PyObject* module) {
  names_ = {PyUnicode_InternFromString("__enter__"), PyUnicode_InternFromString("__exit__"),
            PyUnicode_InternFromString("acquire"), PyUnicode_InternFromString("release")};
  if (names_.enter == nullptr || names_.exit == nullptr || names_.acquire == nullptr || names_.release == nullptr)
    return false;
  cell_type = reinterpret_cast<PyTypeObject*>(PyType_FromSpec(&spec));
  return cell_type != nullptr && PyModule_AddObjectRef(module, "Cell", reinterpret_cast<PyObject*>(cell_type)) == 0;
}

bool add_cell_types(PyObject* module) {
  return add_cell_type(module) && add_value_cell_type(module) && add_array_cell_type(module);
}

}  // namespace shoal::bindings
