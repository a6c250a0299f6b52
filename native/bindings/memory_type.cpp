// Floor 8: Memory: shared memory as a Python object that offers the buffer protocol. It lives as long as any process has a handle or a view of it.
#include "memory/memory.hpp"

#include "bindings/types.hpp"
#include "recovery/lifetime.hpp"

namespace shoal::bindings {

namespace {

struct MemoryObject {
  Handle handle;
  char* at;  // nullptr: not looked up yet
};

MemoryObject* memory_of(PyObject* self) { return reinterpret_cast<MemoryObject*>(self); }

int memory_init(PyObject* self, PyObject* args, PyObject* kwargs) {
  static const char* names[] = {"size", nullptr};
  Py_ssize_t size = 0;
  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "n", const_cast<char**>(names), &size)) return -1;
  if (size < 0) {
    PyErr_Format(PyExc_ValueError, "Size %zd out of range", size);
    return -1;
  }
  if (memory_of(self)->at != nullptr) {  // others may be looking at it
    PyErr_SetString(PyExc_ValueError, "this memory has been made already");
    return -1;
  }
  if (!ensure_attached()) return -1;
  uint32_t index = 0, generation = 0;
  arena::Status status = memory::create(static_cast<uint64_t>(size), index, generation);
  // What is retired and not looked at yet may be large.
  if (status == arena::Status::kNoMemory && recovery::sweep_now())
    status = memory::create(static_cast<uint64_t>(size), index, generation);
  if (status != arena::Status::kOk) {
    raise_status(status);
    return -1;
  }
  hold_new(&memory_of(self)->handle, object::Kind::kMemory, index, generation);
  memory_of(self)->at = memory::address(index);
  return 0;
}

bool find(MemoryObject* m) {
  if (m->at != nullptr) return true;
  if (!check_held(&m->handle) || !ensure_attached()) return false;
  m->at = memory::address(m->handle.index);
  if (m->at == nullptr) raise_status(arena::Status::kSystem);
  return m->at != nullptr;
}

int memory_buffer(PyObject* self, Py_buffer* view, int flags) {
  MemoryObject* m = memory_of(self);
  if (!find(m)) return -1;
  return PyBuffer_FillInfo(view, self, m->at, static_cast<Py_ssize_t>(memory::size(m->handle.index)), 0, flags);
}

PyObject* memory_address(PyObject* self, void*) {
  return find(memory_of(self)) ? PyLong_FromVoidPtr(memory_of(self)->at) : nullptr;
}

PyGetSetDef attributes[] = {{"_address", memory_address, nullptr, "Where it is mapped in this process.", nullptr},
                            {nullptr, nullptr, nullptr, nullptr, nullptr}};
PyType_Slot slots[] = {{Py_tp_init, reinterpret_cast<void*>(memory_init)},
                       {Py_bf_getbuffer, reinterpret_cast<void*>(memory_buffer)},
                       {Py_tp_getset, attributes},
                       {Py_tp_doc, const_cast<char*>("Shared memory, all zeros at first.")},
                       {0, nullptr}};
PyType_Spec spec = {"shoal._native.Memory", sizeof(MemoryObject), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE, slots};

}  // namespace

bool add_memory_type(PyObject* module) {
  PyObject* type = PyType_FromSpecWithBases(&spec, reinterpret_cast<PyObject*>(handle_type));
  if (type == nullptr) return false;
  register_kind(reinterpret_cast<PyTypeObject*>(type), object::Kind::kMemory);
  return PyModule_AddObjectRef(module, "Memory", type) == 0;
}

}  // namespace shoal::bindings
