// Floor 8: the arena and process slots as functions, and the references of a message to a child that is being started.
#include <fcntl.h>
#include <poll.h>

#include "bindings/codec.hpp"
#include "bindings/types.hpp"
#include "bindings/watcher_start.hpp"
#include "channel/segment.hpp"
#include "process/nodes.hpp"
#include "recovery/recovery.hpp"

namespace shoal::bindings {

namespace {

PyObject* arena_ensure(PyObject*, PyObject*) {
  return ensure_attached() ? PyLong_FromLong(arena::descriptor()) : nullptr;
}

PyObject* arena_descriptor(PyObject*, PyObject*) {
  return PyLong_FromLong(arena::attached() ? arena::descriptor() : -1);
}

PyObject* arena_attach(PyObject*, PyObject* args) {
  int fd = -1;
  unsigned long long token = 0;
  if (!PyArg_ParseTuple(args, "iK", &fd, &token)) return nullptr;
  if (arena::attached()) {
    PyErr_SetString(PyExc_RuntimeError, "this process already uses another process tree's shared memory");
    return nullptr;
  }
  fcntl(fd, F_SETFD, FD_CLOEXEC);
  if (const arena::Status s = arena::attach(os::above_standard(fd)); s != arena::Status::kOk) return raise_status(s);
  watch_forks();
  if (!process::claim(token))
    return PyErr_Format(PyExc_OSError, "more than %d processes of one tree use shoal", static_cast<int>(arena::kSlots));
  // Its slot was given up, and what it was sent has been freed. It may have the same slot again: by its token it is another one.
  if (token != 0 && process::token_of(process::mine()) != token)
    return PyErr_Format(PyExc_ProcessLookupError,
                        "the process that started this one died, or was interrupted, and this one came too late");
  Py_RETURN_NONE;
}

bool set(PyObject* dict, const char* key, uint64_t value) {
  PyObject* v = PyLong_FromUnsignedLongLong(value);
  const bool ok = v != nullptr && PyDict_SetItemString(dict, key, v) == 0;
  Py_XDECREF(v);
  return ok;
}

PyObject* arena_statistics(PyObject*, PyObject*) {
  if (!ensure_attached()) return nullptr;
  uint64_t objects = 0, retired = 0, segments = 0, nodes = 0, processes = 0, blobs = 0;
  for (uint32_t i = 0; i < arena::grown(arena::kObjectTable); ++i) {
    const object::State s = object::load(i).state();
    objects += s != object::State::kFree ? 1 : 0;
    retired += s == object::State::kRetired ? 1 : 0;
  }
  for (uint32_t i = 0; i < arena::grown(arena::kSegmentTable); ++i)
    segments += channel::is_free(channel::segment_word(i).load()) ? 0 : 1;
  for (uint32_t i = 0; i < arena::grown(arena::kNodeTable); ++i) nodes += process::node(i).owner.load() != 0 ? 1 : 0;
  for (uint32_t i = 0; i < arena::kSlots; ++i)
    processes += process::state_of(process::slot(i).word.load()) != process::State::kFree ? 1 : 0;
  blob::for_each([&](blob::Name, blob::Word) { ++blobs; });
  PyObject* d = PyDict_New();
  if (d != nullptr && set(d, "objects", objects) && set(d, "retired", retired) && set(d, "segments", segments) &&
      set(d, "blobs", blobs) && set(d, "nodes", nodes) && set(d, "slots", processes) &&
      set(d, "bytes", arena::bytes_in_use()) && set(d, "quota", arena::header().quota))
    return d;
  Py_XDECREF(d);
  return nullptr;
}

uint32_t flags_of(int daemon, int die_with_parent) {
  return (daemon != 0 ? process::kDaemon : 0) | (die_with_parent != 0 ? process::kDieWithParent : 0);
}

PyObject* slot_reserve(PyObject*, PyObject* args) {
  int daemon = 0, die = 0;
  if (!PyArg_ParseTuple(args, "pp", &daemon, &die) || !ensure_attached()) return nullptr;
  const process::Token token = process::reserve(flags_of(daemon, die));
  if (token == 0)
    return PyErr_Format(PyExc_OSError, "more than %d processes of one tree use shoal", static_cast<int>(arena::kSlots));
  return PyLong_FromUnsignedLongLong(token);
}

PyObject* fork_flags(PyObject*, PyObject* args) {
  int daemon = 0, die = 0;
  if (!PyArg_ParseTuple(args, "pp", &daemon, &die) || !ensure_attached()) return nullptr;
  process::set_fork_flags(flags_of(daemon, die));
  Py_RETURN_NONE;
}

// As os.fork(), which from CPython 3.12 on also warns, by itself and of whatever threads there are.
PyObject* fork_unannounced(PyObject*, PyObject*) {
  if (PySys_Audit("os.fork", nullptr) < 0) return nullptr;
  PyOS_BeforeFork();
  const pid_t pid = fork();
  const int error = errno;
  if (pid == 0)
    PyOS_AfterFork_Child();
  else
    PyOS_AfterFork_Parent();
  if (pid >= 0) return PyLong_FromLong(pid);
  errno = error;
  return PyErr_SetFromErrno(PyExc_OSError);
}

PyObject* fork_token(PyObject*, PyObject*) { return PyLong_FromUnsignedLongLong(process::last_fork()); }

PyObject* slot_set_pid(PyObject*, PyObject* args) {
  unsigned long long token = 0;
  int pid = 0;
  if (!PyArg_ParseTuple(args, "Ki", &token, &pid) || !ensure_attached()) return nullptr;
  if (token != 0) process::set_pid(token, pid);
  Py_RETURN_NONE;
}

bool token_argument(PyObject* obj, process::Token& token) {
  token = PyLong_AsUnsignedLongLong(obj);
  return PyErr_Occurred() == nullptr && ensure_attached();
}

// Waits for another one who is recovering it, as the watcher may be: microseconds, unless that one has been stopped. Then it is left to that one.
PyObject* recover_life(process::Token token) {
  GilWait gil;
  begin_wait_for_ever(gil);
  gil.wait.deadline = os::now() + recovery::kPatience;
  const bool done = recovery::recover_life(token, gil.wait);
  end_wait(gil);
  return PyErr_Occurred() != nullptr ? nullptr : PyBool_FromLong(done);
}

PyObject* slot_cancel(PyObject*, PyObject* obj) {
  process::Token token = 0;
  if (!token_argument(obj, token)) return nullptr;
  if (token == 0) Py_RETURN_NONE;
  process::cancel(token);
  return recover_life(token);
}

// A free slot keeps what its last process said; the generation has moved on by one.
bool still_speaks_of(const process::Slot& s, process::Token token) {
  const uint64_t word = s.word.load();
  const uint64_t generation = process::generation_of(token);
  return word >> 20 == generation || (word >> 20 == generation + 1 && process::state_of(word) == process::State::kFree);
}

PyObject* slot_exit_code(PyObject*, PyObject* obj) {
  process::Token token = 0;
  if (!token_argument(obj, token)) return nullptr;
  const process::Slot& s = process::slot(process::slot_of(token));
  if (!still_speaks_of(s, token) || s.exit_code_known.load() == 0) Py_RETURN_NONE;
  return PyLong_FromLong(s.exit_code.load());
}

PyObject* slot_claimed_by(PyObject*, PyObject* obj) {
  process::Token token = 0;
  if (!token_argument(obj, token)) return nullptr;
  const process::Slot& s = process::slot(process::slot_of(token));
  const int32_t pid = s.claimed_by.load();
  return PyLong_FromLong(still_speaks_of(s, token) ? pid : 0);
}

PyObject* slot_state(PyObject*, PyObject* obj) {
  process::Token token = 0;
  if (!token_argument(obj, token)) return nullptr;
  const uint64_t word = process::slot(process::slot_of(token)).word.load();
  if (process::names(token, word) && process::state_of(word) == process::State::kReserved)
    return PyUnicode_FromString("reserved");
  if (process::names(token, word) && process::state_of(word) == process::State::kLive)
    return PyUnicode_FromString("live");
  return PyUnicode_FromString("gone");
}

// The kernel marks the token of who dies, and of who becomes another program. Once what it held has been given back, its slot moves on.
PyObject* slot_abandoned(PyObject*, PyObject* obj) {
  process::Token token = 0;
  if (!token_argument(obj, token)) return nullptr;
  const uint32_t index = process::slot_of(token);
  const bool says_dead = process::token_says_dead(index);  // of this process, or of the next one in the slot
  return PyBool_FromLong(says_dead || !process::names(token, process::slot(index).word.load()));
}

PyObject* set_exit_code(PyObject*, PyObject* args) {
  int code = 0, clean = 1;
  if (!PyArg_ParseTuple(args, "i|p", &code, &clean)) return nullptr;
  // Only the thread that leaves can vouch for itself: another one may be in the middle of something when the process goes.
  if (arena::attached()) process::leave(code, clean != 0);
  Py_RETURN_NONE;
}

PyObject* my_slot(PyObject*, PyObject*) {
  return ensure_attached() ? PyLong_FromUnsignedLong(process::mine()) : nullptr;
}

PyObject* slot_recover(PyObject*, PyObject* obj) {
  process::Token token = 0;
  return token_argument(obj, token) ? recover_life(token) : nullptr;
}

PyObject* has_ended(PyObject*, PyObject* args) {
  int sentinel = -1;
  PyObject* timeout = nullptr;
  GilWait gil;
  if (!PyArg_ParseTuple(args, "iO", &sentinel, &timeout) || !begin_wait(gil, true, timeout)) return nullptr;
  for (;;) {
    pollfd p{sentinel, POLLIN, 0};
    const int milliseconds = next_sleep(gil, gil.wait.deadline);
    if (milliseconds != 0) gil.wait.begin();
    const int ready = poll(&p, 1, milliseconds);
    const int error = errno;
    const bool again = ready == 0 ? milliseconds != 0 : ready < 0 && error == EINTR;
    if (again && !gil.wait.should_stop()) continue;
    end_wait(gil);
    if (again) return nullptr;  // a signal handler has raised
    if (ready >= 0) return PyBool_FromLong(ready);
    errno = error;
    return PyErr_SetFromErrno(PyExc_OSError);
  }
}

PyObject* watcher_start(PyObject*, PyObject*) {
  if (!ensure_attached()) return nullptr;
  if (const int error = start_watcher(); error != 0) {
    errno = error;
    return PyErr_SetFromErrnoWithFilename(PyExc_OSError, watcher_path());
  }
  Py_RETURN_NONE;
}

PyObject* watcher_pid(PyObject*, PyObject*) {
  return ensure_attached() ? PyLong_FromLong(process::watcher()) : nullptr;
}

// References of what is pickled for a child: begin, pickle, end(token of the slot reserved for it; 0 drops them). One at a time per thread, nested ones on a stack.
thread_local Mentions* open_ = nullptr;

PyObject* references_begin(PyObject*, PyObject*) {
  auto* m = static_cast<Mentions*>(PyMem_Malloc(sizeof(Mentions)));
  if (m == nullptr) return PyErr_NoMemory();
  begin_mentions(*m);
  open_ = m;
  Py_RETURN_NONE;
}

PyObject* references_end(PyObject*, PyObject* args) {
  unsigned long long token = 0;
  if (!PyArg_ParseTuple(args, "|K", &token)) return nullptr;
  Mentions* m = open_;
  if (m == nullptr) {
    PyErr_SetString(PyExc_RuntimeError, "references_end() without references_begin()");
    return nullptr;
  }
  open_ = m->outer;
  const bool ok = attach_mentions(*m, token);
  end_mentions(*m);
  PyMem_Free(m);
  if (!ok) return nullptr;
  Py_RETURN_NONE;
}

PyObject* references_noted(PyObject*, PyObject*) { return PyLong_FromUnsignedLong(mentioned()); }

PyMethodDef functions[] = {
    {"arena_ensure", arena_ensure, METH_NOARGS, "The descriptor of this tree's arena, which is made if there is none."},
    {"arena_descriptor", arena_descriptor, METH_NOARGS, "The arena's descriptor, -1 if this process has none."},
    {"arena_attach", arena_attach, METH_VARARGS, "arena_attach(fd, token): of a spawned child."},
    {"arena_statistics", arena_statistics, METH_NOARGS, "Counts of what is in use, and bytes."},
    {"slot_reserve", slot_reserve, METH_VARARGS,
     "slot_reserve(daemon, die_with_parent): a token, for a child to be spawned."},
    {"fork_flags", fork_flags, METH_VARARGS, "fork_flags(daemon, die_with_parent): of the next fork by this thread."},
    {"fork_unannounced", fork_unannounced, METH_NOARGS, "os.fork(), without a warning of the interpreter's."},
    {"fork_token", fork_token, METH_NOARGS,
     "The token of the slot reserved for the last fork of this thread; 0: none."},
    {"slot_set_pid", slot_set_pid, METH_VARARGS, "slot_set_pid(token, pid)"},
    {"slot_cancel", slot_cancel, METH_O, "slot_cancel(token): the child was never made; as slot_recover."},
    {"slot_exit_code", slot_exit_code, METH_O, "slot_exit_code(token): what the process said before it left, or None."},
    {"slot_claimed_by", slot_claimed_by, METH_O,
     "slot_claimed_by(token): the process that took the slot, gone or not; 0: none has, or it is not known any more."},
    {"slot_state", slot_state, METH_O, "slot_state(token): 'reserved', 'live' or 'gone'."},
    {"slot_abandoned", slot_abandoned, METH_O,
     "slot_abandoned(token): whether the process has died, or become another program."},
    {"set_exit_code", set_exit_code, METH_VARARGS,
     "set_exit_code(code, clean=True): this process is about to leave; clean: no other thread is in the middle of "
     "anything."},
    {"my_slot", my_slot, METH_NOARGS, "The number of this process's slot."},
    {"slot_recover", slot_recover, METH_O,
     "slot_recover(token): True once all that a dead process held has been given back, by this process or by another; "
     "False: it lives, or another one has been at it for a second."},
    {"has_ended", has_ended, METH_VARARGS,
     "has_ended(sentinel, timeout): whether it is readable within so many seconds (None: for ever); signal handlers "
     "run "
     "meanwhile."},
    {"watcher_start", watcher_start, METH_NOARGS, "Starts the tree's watcher, unless it has one."},
    {"watcher_pid", watcher_pid, METH_NOARGS, "0: none lives."},
    {"set_carrier", set_carrier, METH_O, "set_carrier(callable): makes references for pickles that are no messages."},
    {"references_begin", references_begin, METH_NOARGS, nullptr},
    {"references_end", references_end, METH_VARARGS, "references_end(token=0)"},
    {"references_noted", references_noted, METH_NOARGS,
     "How many references were noted in what this thread pickles, so far."},
    {nullptr, nullptr, 0, nullptr}};

}  // namespace

bool add_processes(PyObject* module) { return find_watcher() && PyModule_AddFunctions(module, functions) == 0; }

}  // namespace shoal::bindings
