// Floor 8: the synchronisation objects' types, and what they share.
#include "bindings/sync_types.hpp"

namespace shoal::bindings {

namespace {

enum class Parameter { kBlock, kTimeout, kUnknown };

Parameter parameter(PyObject* name, bool has_block) {
  if (has_block && PyUnicode_CompareWithASCIIString(name, "block") == 0) return Parameter::kBlock;
  return PyUnicode_CompareWithASCIIString(name, "timeout") == 0 ? Parameter::kTimeout : Parameter::kUnknown;
}

bool set_block(PyObject* value, bool* block) {
  const int truth = PyObject_IsTrue(value);
  *block = truth > 0;
  return truth >= 0;
}

// Looked at even if nobody will wait, as in the standard library.
bool is_timeout(PyObject* timeout) {
  if (timeout == nullptr || timeout == Py_None || PyFloat_CheckExact(timeout)) return true;
  return PyFloat_AsDouble(timeout) != -1.0 || PyErr_Occurred() == nullptr;
}

}  // namespace

bool read_arguments(const char* function, PyObject* const* args, Py_ssize_t count, PyObject* names, bool* block,
                    PyObject** timeout) {
  const Py_ssize_t most = block != nullptr ? 2 : 1;
  if (count > most) {
    PyErr_Format(PyExc_TypeError, "%s() takes at most %zd argument%s (%zd given)", function, most, most == 1 ? "" : "s",
                 count);
    return false;
  }
  if (count > 0 && block != nullptr && !set_block(args[0], block)) return false;
  if (count == most) *timeout = args[most - 1];
  const Py_ssize_t named = names != nullptr ? PyTuple_GET_SIZE(names) : 0;
  for (Py_ssize_t i = 0; i < named; ++i) {
    PyObject* name = PyTuple_GET_ITEM(names, i);
    const Parameter which = parameter(name, block != nullptr);
    if (which == Parameter::kUnknown) {
      PyErr_Format(PyExc_TypeError, "%s() got an unexpected keyword argument '%U'", function, name);
      return false;
    }
    if ((which == Parameter::kBlock && count > 0) || (which == Parameter::kTimeout && count == most)) {
      PyErr_Format(PyExc_TypeError, "%s() got multiple values for argument '%U'", function, name);
      return false;
    }
    if (which == Parameter::kTimeout)
      *timeout = args[count + i];
    else if (!set_block(args[count + i], block))
      return false;
  }
  return is_timeout(*timeout);
}

bool start_wait(GilWait& gil, bool block, PyObject* timeout) {
  if (block) return begin_wait(gil, true, timeout);
  gil.wait.deadline = 0;  // and no hooks: it will not wait
  return true;
}

PyObject* raise_no_node() {
  PyErr_Format(PyExc_MemoryError,
               "more than %d threads of one process tree wait, or hold a semaphore in a with statement",
               static_cast<int>(arena::kNodes));
  return nullptr;
}

bool add_sync_types(PyObject* module) {
  return add_lock_types(module) && add_semaphore_type(module) && add_event_type(module) && add_condition_type(module) &&
         add_barrier_type(module);
}

}  // namespace shoal::bindings
