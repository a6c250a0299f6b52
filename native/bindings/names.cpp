// Floor 8: what the tree answers for in the file system, as functions. Opening, mapping and closing is Python's own work; giving a name that the tree
// answers for is not.
#include "names/names.hpp"

#include "bindings/types.hpp"

namespace shoal::bindings {

namespace {

// As shm_open's errors look, whose place this takes.
PyObject* raise_for(arena::Status status, const char* name) {
  if (status != arena::Status::kSystem) return raise_status(status);
  PyObject* shown = PyUnicode_FromFormat("/%s", name);
  if (shown == nullptr) return nullptr;
  errno = arena::last_failure().error;
  PyErr_SetFromErrnoWithFilenameObject(PyExc_OSError, shown);
  Py_DECREF(shown);
  return nullptr;
}

PyObject* name_link(PyObject*, PyObject* args) {
  int fd = -1, tracked = 1;
  const char* name = nullptr;
  if (!PyArg_ParseTuple(args, "isp", &fd, &name, &tracked)) return nullptr;
  if (tracked != 0 && !ensure_attached()) return nullptr;
  const arena::Status status = tracked != 0 ? names::link(fd, name) : names::link_untracked(fd, name);
  if (status != arena::Status::kOk) return raise_for(status, name);
  Py_RETURN_NONE;
}

PyObject* directory_make(PyObject*, PyObject* path) {
  PyObject* bytes = nullptr;
  if (PyUnicode_FSConverter(path, &bytes) == 0) return nullptr;
  if (!ensure_attached()) {
    Py_DECREF(bytes);
    return nullptr;
  }
  const arena::Status status = names::make_directory(PyBytes_AS_STRING(bytes));
  Py_DECREF(bytes);
  if (status == arena::Status::kOk) Py_RETURN_NONE;
  if (status != arena::Status::kSystem) return raise_status(status);
  errno = arena::last_failure().error;
  return PyErr_SetFromErrnoWithFilenameObject(PyExc_OSError, path);
}

PyObject* name_track(PyObject*, PyObject* args) {
  const char* name = nullptr;
  if (!PyArg_ParseTuple(args, "s", &name) || !ensure_attached()) return nullptr;
  if (const arena::Status status = names::track(name); status != arena::Status::kOk) return raise_for(status, name);
  Py_RETURN_NONE;
}

PyObject* name_forget(PyObject*, PyObject* args) {
  int gone = 0;
  PyObject* name = nullptr;
  if (!PyArg_ParseTuple(args, "O&|p", PyUnicode_FSConverter, &name, &gone)) return nullptr;
  const names::Forget what = gone != 0 ? names::Forget::kGone : names::Forget::kAll;
  const bool tracked = arena::attached() && names::forget(PyBytes_AS_STRING(name), what) != 0;
  Py_DECREF(name);
  return PyBool_FromLong(tracked);
}

PyObject* name_is_tracked(PyObject*, PyObject* args) {
  const char* name = nullptr;
  if (!PyArg_ParseTuple(args, "s", &name)) return nullptr;
  return PyBool_FromLong(arena::attached() && names::is_tracked(name));
}

PyObject* memory_limit(PyObject*, PyObject*) {
  static const uint64_t limit = os::memory_limit();
  return PyLong_FromUnsignedLongLong(limit);
}

PyMethodDef functions[] = {
    {"name_link", name_link, METH_VARARGS,
     "name_link(fd, name, tracked): names an unnamed file of /dev/shm; OSError as of shm_open."},
    {"directory_make", directory_make, METH_O,
     "directory_make(path): a directory for this user alone, which the tree answers for; OSError as of mkdir."},
    {"name_track", name_track, METH_VARARGS, "name_track(name): the tree answers for it from now on."},
    {"name_forget", name_forget, METH_VARARGS,
     "name_forget(name, gone=False): no longer; gone: only if its file has been unlinked. False: it was not tracked."},
    {"name_is_tracked", name_is_tracked, METH_VARARGS, "name_is_tracked(name)"},
    {"memory_limit", memory_limit, METH_NOARGS,
     "Bytes: the machine's memory or the cgroup's limit, whichever is less."},
    {nullptr, nullptr, 0, nullptr}};

}  // namespace

bool add_names(PyObject* module) { return PyModule_AddFunctions(module, functions) == 0; }

}  // namespace shoal::bindings
