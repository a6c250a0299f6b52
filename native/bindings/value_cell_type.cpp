// Floor 8: ValueCell: a single number under a lock.
#include "bindings/cell_type.hpp"

namespace shoal::bindings {

namespace {

PyObject* value_name_ = nullptr;

PyObject* get_value(PyObject* self, void*) {
  Cell* c = cell_of(self);
  if (!enter(c)) return nullptr;
  if (c->scalar == nullptr) return leave_with(c, PyObject_GetAttr(c->obj, value_name_));
  const Number n = c->scalar->load(c->at);
  return leave(c) ? c->scalar->object_of(n) : nullptr;
}

int set_value(PyObject* self, PyObject* value, void*) {
  Cell* c = cell_of(self);
  if (value == nullptr) {
    PyErr_SetString(PyExc_AttributeError, "the value cannot be deleted");
    return -1;
  }
  Number n;
  const bool parsed = c->scalar != nullptr && c->scalar->parse(value, n);
  if (!enter(c)) return -1;
  if (parsed) {
    c->scalar->store(c->at, n);
    return leave(c) ? 0 : -1;
  }
  PyObject* done = PyObject_SetAttr(c->obj, value_name_, value) == 0 ? Py_NewRef(Py_None) : nullptr;
  done = leave_with(c, done);
  Py_XDECREF(done);
  return done != nullptr ? 0 : -1;
}

// Of an argument for add(); what needs code of Python's is converted here, before the lock is taken.
bool parse_summand(const Scalar& scalar, PyObject* value, Number& n) {
  if (scalar.parse(value, n)) return true;
  if (scalar.real) {
    n.real = PyFloat_AsDouble(value);
    return n.real != -1.0 || PyErr_Occurred() == nullptr;
  }
  PyErr_Format(PyExc_TypeError, "int expected instead of %s instance", Py_TYPE(value)->tp_name);
  return false;
}

PyObject* refuse_to_add(Cell* c) {
  PyErr_Format(PyExc_TypeError, "add() is for numbers; this is a %s", Py_TYPE(c->obj)->tp_name);
  return nullptr;
}

// For numbers that are not read and written here: a long double, say, or what does not lie in the arena.
PyObject* add_to_object(Cell* c, PyObject* summand) {
  PyObject* before = PyObject_GetAttr(c->obj, value_name_);
  if (before == nullptr) return nullptr;
  if (PyNumber_Check(before) == 0 || PyBool_Check(before)) {
    Py_DECREF(before);
    return refuse_to_add(c);
  }
  PyObject* after = PyNumber_Add(before, summand);
  Py_DECREF(before);
  const bool done = after != nullptr && PyObject_SetAttr(c->obj, value_name_, after) == 0;
  Py_XDECREF(after);
  return done ? PyObject_GetAttr(c->obj, value_name_) : nullptr;
}

PyObject* add(PyObject* self, PyObject* summand) {
  Cell* c = cell_of(self);
  const Scalar* scalar = c->scalar;
  if (scalar == nullptr) return enter(c) ? leave_with(c, add_to_object(c, summand)) : nullptr;
  if (scalar->sum == nullptr) return refuse_to_add(c);
  Number n;
  if (!parse_summand(*scalar, summand, n) || !enter(c)) return nullptr;
  scalar->store(c->at, scalar->sum(scalar->load(c->at), n));
  n = scalar->load(c->at);
  return leave(c) ? scalar->object_of(n) : nullptr;
}

PyMethodDef methods[] = {{"add", add, METH_O,
                          "add($self, n, /)\n--\n\nAdd to the value, under the lock; return what it is then, as "
                          "``value`` would (a whole number wraps around)."},
                         {nullptr, nullptr, 0, nullptr}};
PyGetSetDef attributes[] = {{"value", get_value, set_value, "The value, read and written under the lock.", nullptr},
                            {nullptr, nullptr, nullptr, nullptr, nullptr}};
PyType_Slot slots[] = {{Py_tp_methods, methods},
                       {Py_tp_getset, attributes},
                       {Py_tp_doc, const_cast<char*>("A ctypes number with a lock.")},
                       {0, nullptr}};
PyType_Spec spec = {"shoal._native.ValueCell", sizeof(Cell), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE, slots};

}  // namespace

bool add_value_cell_type(PyObject* module) {
  value_name_ = PyUnicode_InternFromString("value");
  PyObject* type = PyType_FromSpecWithBases(&spec, reinterpret_cast<PyObject*>(cell_type));
  return value_name_ != nullptr && type != nullptr && PyModule_AddObjectRef(module, "ValueCell", type) == 0;
}

}  // namespace shoal::bindings
