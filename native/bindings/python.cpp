#include "bindings/python.hpp"

#include <algorithm>
#include <climits>

#include "bindings/watcher_start.hpp"
#include "names/names.hpp"
#include "process/namespace.hpp"
#include "process/slots.hpp"
#include "recovery/recovery.hpp"

namespace shoal::bindings {

uint32_t forks = 1;

namespace {

void let_go(sync::Wait& wait) {
  auto& gil = *static_cast<GilWait*>(wait.state);
  gil.thread = PyEval_SaveThread();
}

bool look_at_signals(sync::Wait& wait) {
  auto& gil = *static_cast<GilWait*>(wait.state);
  end_wait(gil);
  if (PyErr_CheckSignals() < 0) return true;  // with the GIL, and the exception set
  gil.thread = PyEval_SaveThread();
  return false;
}

// Python runs signal handlers on its main thread only; in a forked child that is the thread that forked. Asked for each message, so the answer is kept, and
// dropped at a fork.
thread_local uint32_t asked_at = 0;
thread_local bool is_main = false;

bool on_main_thread() {
  if (asked_at != forks) {
    is_main = os::on_main_thread();
    asked_at = forks;
  }
  return is_main;
}

}  // namespace

void begin_wait_for_ever(GilWait& gil) {
  gil.wait.state = &gil;
  gil.wait.pause = let_go;
  gil.wait.interrupted = on_main_thread() ? look_at_signals : nullptr;
}

bool begin_wait(GilWait& gil, bool block, PyObject* timeout) {
  begin_wait_for_ever(gil);
  if (!block) {
    gil.wait.deadline = 0;
  } else if (timeout != nullptr && timeout != Py_None) {
    const double seconds = PyFloat_AsDouble(timeout);
    if (seconds == -1.0 && PyErr_Occurred() != nullptr) return false;
    if (!(seconds > 0))
      gil.wait.deadline = 0;
    else if (seconds < 9e9)
      gil.wait.deadline = os::now() + static_cast<uint64_t>(seconds * 1e9);
  }
  return true;
}

int next_sleep(const GilWait& gil, uint64_t deadline) {
  const int longest = gil.wait.interrupted != nullptr ? sync::kSignalSlice : -1;
  if (deadline == os::kNever) return longest;
  const uint64_t now = os::now();
  if (now >= deadline) return 0;
  const auto left = static_cast<int>(std::min<uint64_t>((deadline - now + 999'999) / 1'000'000, INT_MAX));
  return longest < 0 ? left : std::min(left, longest);
}

PyObject* raise_status(arena::Status status) {
  const arena::Failure& f = arena::last_failure();
  switch (status) {
    case arena::Status::kOk:
      break;
    case arena::Status::kNoMemory:
      PyErr_Format(PyExc_MemoryError,
                   "shoal's shared memory is full: %llu bytes wanted, %llu of %llu in use; drop what is queued, or "
                   "raise SHOAL_ARENA_LIMIT (bytes)",
                   static_cast<unsigned long long>(f.wanted), static_cast<unsigned long long>(f.used),
                   static_cast<unsigned long long>(f.quota));
      break;
    case arena::Status::kLostDescriptor:
      PyErr_SetString(
          PyExc_OSError,
          "the descriptor of shoal's shared memory has been closed (daemonising code closes all descriptors); "
          "start shoal's objects after it has done so");
      break;
    case arena::Status::kSystem:
      errno = f.error;
      PyErr_SetFromErrno(PyExc_OSError);
      break;
  }
  return nullptr;
}

PyObject* imported(const char* module, const char* name) {
  static PyObject* cache = nullptr;
  if (cache == nullptr && (cache = PyDict_New()) == nullptr) return nullptr;
  PyObject* key = PyUnicode_FromFormat("%s.%s", module, name);
  if (key == nullptr) return nullptr;
  PyObject* found = PyDict_GetItemWithError(cache, key);
  if (found == nullptr && PyErr_Occurred() == nullptr) {
    PyObject* m = PyImport_ImportModule(module);
    PyObject* value = m != nullptr ? PyObject_GetAttrString(m, name) : nullptr;
    Py_XDECREF(m);
    if (value != nullptr && PyDict_SetItem(cache, key, value) == 0) found = value;
    Py_XDECREF(value);  // the cache holds it
  }
  Py_DECREF(key);
  return found;
}

PyObject* raise_from(const char* module, const char* name, const char* text) {
  PyObject* type = imported(module, name);
  if (type == nullptr) return nullptr;
  if (text != nullptr)
    PyErr_SetString(type, text);
  else
    PyErr_SetNone(type);
  return nullptr;
}

void watch_forks() {
  prepare_watcher();
  process::watch_forks();
  process::on_fork_in_child([] { ++forks; });
  watch_over_forks();
}

// For a process that the standard library has started there may be an arena already. False with an exception set.
static bool join_relatives() {
  PyObject* join = imported("shoal._runtime.relatives", "join");
  if (join == nullptr) {
    if (!PyErr_ExceptionMatches(PyExc_ImportError)) return false;
    PyErr_Clear();  // the interpreter is ending
    return true;
  }
  PyObject* done = PyObject_CallNoArgs(join);
  Py_XDECREF(done);
  return done != nullptr;
}

// At the very end of the interpreter: whatever Python code there is has run by then, and may have used what has a name. In a child that has been forked it finds that
// this is not its business.
static void take_names_along() {
  if (getpid() != 1) return;
  Py_AtExit([] {
    if (process::tree_ends_with_this()) names::remove_all();
  });
}

bool ensure_attached() {
  if (!arena::attached() && !join_relatives()) return false;
  if (arena::attached()) {
    if (process::mine() != process::kNoSlot) return true;
    // A fork that ran no handlers of ours, or found no free slot.
    if (process::claim(0, process::kForked)) return true;
    PyErr_Format(PyExc_OSError, "more than %d processes of one tree use shoal", static_cast<int>(arena::kSlots));
    return false;
  }
  uint64_t quota = 0;
  if (const char* text = getenv("SHOAL_ARENA_LIMIT")) quota = strtoull(text, nullptr, 10);
  if (arena::Status s = arena::create(quota); s != arena::Status::kOk) {
    raise_status(s);
    return false;
  }
  recovery::init();
  watch_forks();
  process::claim(0, process::kFounder);
  take_names_along();
  return true;
}

}  // namespace shoal::bindings
