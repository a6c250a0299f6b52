// Floor 8: TaskTable, the pool's two channels, and what can arrive in place of a payload.
#include <csignal>

#include "bindings/codec.hpp"
#include "bindings/types.hpp"
#include "task/task.hpp"

namespace shoal::bindings {

namespace {

PyTypeObject* tasks_type = nullptr;  // a Channel whose claims are noted
PyTypeObject* load_failure_type = nullptr;
PyTypeObject* worker_lost_type = nullptr;

// --- what arrives instead of a payload ----------------------------------------------------------------------------------

PyStructSequence_Field load_failure_fields[] = {{"exception", "what loading the payload raised"}, {nullptr, nullptr}};
PyStructSequence_Desc load_failure_desc = {"shoal._native.LoadFailure", "A payload that could not be loaded.",
                                           load_failure_fields, 1};
PyStructSequence_Field worker_lost_fields[] = {{"pid", "of the worker that died with the task"},
                                               {"begun", "how many items of a chunk it had begun"},
                                               {"first", "number of the first of them whose outcome follows"},
                                               {"outcomes", "list of outcomes that it had not published"},
                                               {nullptr, nullptr}};
PyStructSequence_Desc worker_lost_desc = {"shoal._native.WorkerLost", "The worker died before it published a result.",
                                          worker_lost_fields, 4};

PyObject* with_field(PyTypeObject* type, PyObject* value) {
  if (value == nullptr) return nullptr;
  PyObject* s = PyStructSequence_New(type);
  if (s == nullptr) {
    Py_DECREF(value);
    return nullptr;
  }
  PyStructSequence_SetItem(s, 0, value);
  return s;
}

PyObject* loss_of(const Incoming& in) {
  task::Loss loss{};
  __builtin_memcpy(&loss, in.stack, in.taken.bytes);
  PyObject* outcomes = PyList_New(0);
  const char* at = in.stack + task::kLossWithProgress;
  while (outcomes != nullptr && in.taken.bytes > task::kLossWithProgress && at < in.stack + in.taken.bytes) {
    PyObject* outcome = read_plain(at);
    if (outcome == nullptr || PyList_Append(outcomes, outcome) != 0) Py_CLEAR(outcomes);
    Py_XDECREF(outcome);
  }
  PyObject* s = outcomes != nullptr ? PyStructSequence_New(worker_lost_type) : nullptr;
  if (s == nullptr) {
    Py_XDECREF(outcomes);
    return nullptr;
  }
  PyStructSequence_SetItem(s, 0, PyLong_FromLong(loss.pid));
  PyStructSequence_SetItem(s, 1, PyLong_FromUnsignedLongLong(loss.progress.begun));
  PyStructSequence_SetItem(s, 2, PyLong_FromUnsignedLongLong(loss.progress.first));
  PyStructSequence_SetItem(s, 3, outcomes);
  return s;
}

// An exception while loading becomes a LoadFailure. So does a Ctrl-C that comes just then, for the message has been taken and its task must be heard
// of; the signal is put back, to be met after this call.
PyObject* payload_of(Incoming& in) {
  if ((in.taken.flags & task::kLost) != 0) return loss_of(in);
  PyObject* payload = decode(in);
  if (payload != nullptr) return payload;
  if (PyErr_ExceptionMatches(PyExc_KeyboardInterrupt)) PyErr_SetInterruptEx(SIGINT);
  PyObject *type = nullptr, *value = nullptr, *trace = nullptr;
  PyErr_Fetch(&type, &value, &trace);
  PyErr_NormalizeException(&type, &value, &trace);
  if (trace != nullptr) PyException_SetTraceback(value, trace);
  Py_XDECREF(type);
  Py_XDECREF(trace);
  return with_field(load_failure_type, value);
}

// --- the table ----------------------------------------------------------------------------------------------------------

struct TaskTable {
  PyObject_HEAD Handle* tasks;
  Handle* results;
  uint32_t heard;  // wake() calls that collect() has answered: one that comes between two collects is not lost
};
PyTypeObject* table_type = nullptr;

TaskTable* table(PyObject* self) { return reinterpret_cast<TaskTable*>(self); }

bool usable(const TaskTable* t) {
  if (t->tasks != nullptr && t->results != nullptr) return true;
  PyErr_SetString(PyExc_ValueError, "this task table has not been initialised");
  return false;
}

Handle* handle_of(PyTypeObject* type, object::Kind kind, uint32_t index, uint32_t generation) {
  PyObject* self = type->tp_alloc(type, 0);
  if (self != nullptr) hold_new(reinterpret_cast<Handle*>(self), kind, index, generation);
  return reinterpret_cast<Handle*>(self);
}

int table_init(PyObject* self, PyObject* args, PyObject*) {
  PyObject *tasks = nullptr, *results = nullptr;
  if (!PyArg_ParseTuple(args, "|O!O!", tasks_type, &tasks, channel_type, &results)) return -1;
  TaskTable* t = table(self);
  Py_CLEAR(t->tasks);
  Py_CLEAR(t->results);
  if (tasks != nullptr && results != nullptr) {  // loaded in another process
    t->tasks = reinterpret_cast<Handle*>(Py_NewRef(tasks));
    t->results = reinterpret_cast<Handle*>(Py_NewRef(results));
    return 0;
  }
  if (!ensure_attached()) return -1;
  uint32_t ti = 0, tg = 0, ri = 0, rg = 0;
  if (const arena::Status s = task::create(ti, tg, ri, rg); s != arena::Status::kOk) {
    raise_status(s);
    return -1;
  }
  t->tasks = handle_of(tasks_type, object::Kind::kTaskTable, ti, tg);
  t->results = handle_of(channel_type, object::Kind::kChannel, ri, rg);
  return t->tasks != nullptr && t->results != nullptr ? 0 : -1;
}

void table_dealloc(PyObject* self) {
  Py_CLEAR(table(self)->tasks);
  Py_CLEAR(table(self)->results);
  PyTypeObject* type = Py_TYPE(self);
  type->tp_free(self);
  Py_DECREF(type);
}

bool task_number(PyObject* obj, uint64_t& task) {
  task = PyLong_AsUnsignedLongLong(obj);
  if (PyErr_Occurred() != nullptr) return false;
  if (task != 0 && task <= task::kLargest) return true;
  PyErr_SetString(PyExc_ValueError, "a task's number is at least 1 and below 2**44");
  return false;
}

PyObject* sent(channel::Result r) {
  if (r == channel::Result::kDone) Py_RETURN_NONE;
  if (r == channel::Result::kNoMemory) return raise_status(arena::Status::kNoMemory);
  return nullptr;
}

// One message, already numbered and flagged: to the workers, or back.
channel::Result put_one(TaskTable* t, Outgoing& out, bool back) {
  GilWait gil;
  begin_wait_for_ever(gil);
  const channel::Result r = back ? task::publish(t->results->index, out.message, gil.wait)
                                 : task::submit(t->tasks->index, out.message, gil.wait);
  end_wait(gil);
  release(out, r == channel::Result::kDone);
  return r;
}

bool submit_one(TaskTable* t, uint64_t task, PyObject* payload) {
  Outgoing out;
  if (!encode(out, payload)) return false;
  out.message.tag = task;
  PyObject* none = sent(put_one(t, out, false));
  Py_XDECREF(none);
  return none != nullptr;
}

PyObject* table_submit(PyObject* self, PyObject* const* args, Py_ssize_t count) {
  uint64_t task = 0;
  if (count != 2) return PyErr_Format(PyExc_TypeError, "submit(task, payload)");
  if (!usable(table(self)) || !task_number(args[0], task) || !submit_one(table(self), task, args[1])) return nullptr;
  Py_RETURN_NONE;
}

PyObject* table_submit_many(PyObject* self, PyObject* const* args, Py_ssize_t count) {
  uint64_t task = 0;
  if (count != 2 || !PyList_Check(args[1]))
    return PyErr_Format(PyExc_TypeError, "submit_many(first_task, list of payloads)");
  if (!usable(table(self)) || !task_number(args[0], task)) return nullptr;
  Py_ssize_t done = 0;
  // Payloads may change the list while they are pickled.
  for (; done < PyList_GET_SIZE(args[1]); ++done) {
    PyObject* payload = Py_NewRef(PyList_GET_ITEM(args[1], done));
    const bool ok = submit_one(table(self), task + static_cast<uint64_t>(done), payload);
    Py_DECREF(payload);
    if (!ok) break;
  }
  if (PyErr_Occurred() != nullptr && done == 0) return nullptr;
  if (PyErr_Occurred() != nullptr)
    PyErr_Clear();  // the caller sees that it stopped, and meets the error at the next one
  return PyLong_FromSsize_t(done);
}

PyObject* table_publish(PyObject* self, PyObject* const* args, Py_ssize_t count) {
  uint64_t task = 0;
  if (count != 3 && count != 4) return PyErr_Format(PyExc_TypeError, "publish(task, last, payload, dumps)");
  if (!usable(table(self)) || !task_number(args[0], task)) return nullptr;
  const int last = PyObject_IsTrue(args[1]);
  Outgoing out;
  const uint32_t forks_before = forks;
  if (last < 0 || !encode(out, args[2], count == 4 ? args[3] : nullptr)) return nullptr;
  if (forks != forks_before) {  // a child that pickling has forked: the outcome is its parent's
    release(out, false);
    Py_RETURN_NONE;
  }
  out.message.tag = task;
  out.message.flags |= last != 0 ? task::kLast : 0;
  return sent(put_one(table(self), out, true));
}

// --- the items of a chunk -----------------------------------------------------------------------------------------------

constexpr uint64_t kStepNanoseconds = 2'000'000;  // between two signs of life
// What a worker may have done of which nobody else knows, should it be killed: publishing at once what the journal cannot take (an outcome that needs a
// pickle) costs a few microseconds, too much for items that take less.
constexpr uint64_t kUnnotedNanoseconds = 20'000;

// Looking at the clock costs a fifth of the quickest items; so it is not done for each of them.
constexpr uint64_t kQuickNanoseconds = 2'000;
constexpr uint32_t kUnlooked = 3;

struct Step {
  PyObject *function, *items,
      *failed;  // failed(exception): the outcome of an item that raised; None: it ends the chunk
  bool starred;
  bool apart;  // an outcome that the journal does not take is published before the next item begins
};

PyObject* call_one(const Step& step, PyObject* item) {
  if (!step.starred) return PyObject_CallOneArg(step.function, item);
  PyObject* arguments = PySequence_Tuple(item);
  PyObject* value = arguments != nullptr ? PyObject_Call(step.function, arguments, nullptr) : nullptr;
  Py_XDECREF(arguments);
  return value;
}

PyObject* outcome_of_failure(const Step& step) {
  if (step.failed == Py_None) return nullptr;
  PyObject *type = nullptr, *value = nullptr, *trace = nullptr;
  PyErr_Fetch(&type, &value, &trace);
  PyErr_NormalizeException(&type, &value, &trace);
  if (trace != nullptr) PyException_SetTraceback(value, trace);
  PyObject* outcome = PyObject_CallOneArg(step.failed, value);
  Py_XDECREF(type);
  Py_XDECREF(value);
  Py_XDECREF(trace);
  return outcome;
}

// run(task, function, items, first, starred, failed, apart=False): calls the function with each item from number `first` on, until it is time to publish the
// list of outcomes, which is returned. In a child that the function has forked: what it has raised, or a list that means nothing.
PyObject* table_run(PyObject*, PyObject* const* args, Py_ssize_t count) {
  uint64_t task = 0;
  if (count != 6 && count != 7)
    return PyErr_Format(PyExc_TypeError, "run(task, function, items, first, starred, failed, apart)");
  if (!task_number(args[0], task)) return nullptr;
  const Py_ssize_t first = PyLong_AsSsize_t(args[3]);
  if (first == -1 && PyErr_Occurred() != nullptr) return nullptr;
  const Step step{args[1], args[2], args[5], args[4] == Py_True, count == 7 && args[6] == Py_True};
  const Py_ssize_t end = PySequence_Size(step.items);
  if (end < 0) return nullptr;
  PyObject* outcomes = PyList_New(0);
  if (outcomes == nullptr) return nullptr;
  task::Journal* journal = task::own_journal();
  if (journal != nullptr) task::begin(*journal, task, static_cast<uint64_t>(first));
  bool noting = journal != nullptr;
  const uint64_t start = os::now();
  uint64_t unnoted_since = noting ? os::kNever : start;
  uint64_t before = start;  // the clock, when it was last looked at
  uint32_t unlooked = 0;
  const uint32_t forks_before = forks;
  for (Py_ssize_t i = first; i < end; ++i) {
    if (journal != nullptr) task::note_begun(*journal, static_cast<uint64_t>(i) + 1);
    PyObject* item = PySequence_GetItem(step.items, i);
    PyObject* outcome = item != nullptr ? call_one(step, item) : nullptr;
    Py_XDECREF(item);
    const bool failed = outcome == nullptr;
    // A child that the function has forked is no worker: it tells of nothing, and what it has raised ends it. The journal is its parent's.
    if (forks != forks_before && (failed || PyList_Append(outcomes, outcome) != 0)) Py_CLEAR(outcomes);
    if (forks != forks_before) {
      Py_XDECREF(outcome);
      return outcomes;
    }
    if (failed) outcome = outcome_of_failure(step);
    if (outcome == nullptr || PyList_Append(outcomes, outcome) != 0) {
      Py_XDECREF(outcome);
      Py_DECREF(outcomes);
      return nullptr;
    }
    bool full = false;
    if (noting) {
      char* after = write_plain(task::room(*journal), task::end_of(*journal), outcome);
      if (after != nullptr) {
        task::note_outcome(*journal, after);
      } else {
        noting = false;
        unnoted_since = before;  // this item has taken its time already
        full = task::is_half_full(*journal);
      }
    }
    Py_DECREF(outcome);
    if (failed || full || (step.apart && !noting)) break;
    if (unlooked != 0) {
      --unlooked;
      continue;
    }
    const uint64_t now = os::now();
    if (now - start > kStepNanoseconds || (!noting && now - unnoted_since > kUnnotedNanoseconds)) break;
    unlooked = now - before < kQuickNanoseconds ? kUnlooked : 0;
    before = now;
  }
  return outcomes;
}

PyObject* table_claim(PyObject* self, PyObject* args) {
  PyObject* timeout = Py_None;
  if (!PyArg_ParseTuple(args, "|O", &timeout) || !usable(table(self))) return nullptr;
  GilWait gil;
  if (!begin_wait(gil, true, timeout)) return nullptr;
  Incoming in;
  in.taken.buffer = in.stack;
  gil.wait.idle = true;  // a worker without work: it has no say in a Ctrl-C, and takes no processor time
  const channel::Result r = task::claim(table(self)->tasks->index, in.taken, gil.wait);
  end_wait(gil);
  if (r == channel::Result::kEmpty || r == channel::Result::kTimeout) Py_RETURN_NONE;
  if (r == channel::Result::kNoMemory)
    return raise_status(arena::Status::kSystem);  // no address space to look at the message
  if (r != channel::Result::kDone) return nullptr;
  PyObject* payload = payload_of(in);
  return payload != nullptr ? Py_BuildValue("KN", static_cast<unsigned long long>(in.taken.tag), payload) : nullptr;
}

// Appends (task, last, payload); false with an exception set.
bool append(PyObject* list, Incoming& in) {
  PyObject* payload = payload_of(in);
  PyObject* row = payload != nullptr ? Py_BuildValue("KON", static_cast<unsigned long long>(in.taken.tag),
                                                     (in.taken.flags & task::kLast) != 0 ? Py_True : Py_False, payload)
                                     : nullptr;
  const bool ok = row != nullptr && PyList_Append(list, row) == 0;
  Py_XDECREF(row);
  return ok;
}

PyObject* table_collect(PyObject* self, PyObject* args) {
  PyObject* timeout = Py_None;
  Py_ssize_t limit = 512;
  if (!PyArg_ParseTuple(args, "|On", &timeout, &limit) || !usable(table(self))) return nullptr;
  GilWait gil;
  if (!begin_wait(gil, true, timeout)) return nullptr;
  PyObject* list = PyList_New(0);
  if (list == nullptr) return nullptr;
  const uint32_t index = table(self)->results->index;
  Incoming in;
  in.taken.buffer = in.stack;
  const uint32_t heard = table(self)->heard;
  in.taken.heard = &heard;
  channel::Result r = channel::get(index, in.taken, gil.wait);
  end_wait(gil);
  table(self)->heard = channel::at(index)->attention.load();
  while (r == channel::Result::kDone) {
    if (!append(list, in)) break;
    if (PyList_GET_SIZE(list) >= limit || !in.taken.more) return list;
    in.taken = {};
    in.taken.buffer = in.stack;
    gil.wait.paused = false;
    gil.wait.deadline = 0;
    r = channel::get_now(index, in.taken, gil.wait);
    end_wait(gil);
  }
  if (r == channel::Result::kNoMemory && PyList_GET_SIZE(list) == 0) raise_status(arena::Status::kSystem);
  if (PyErr_Occurred() != nullptr) Py_CLEAR(list);
  return list;
}

PyObject* table_wake(PyObject* self, PyObject*) {
  if (!usable(table(self))) return nullptr;
  channel::wake(table(self)->results->index);
  Py_RETURN_NONE;
}

PyObject* table_close(PyObject* self, PyObject*) {
  if (!usable(table(self))) return nullptr;
  channel::close(table(self)->tasks->index);
  Py_RETURN_NONE;
}

PyObject* table_queued(PyObject* self, PyObject*) {
  if (!usable(table(self))) return nullptr;
  return PyLong_FromUnsignedLong(channel::length(channel::at(table(self)->tasks->index)->ring));
}

PyObject* table_running(PyObject* self, PyObject* token_object) {
  const uint64_t token = PyLong_AsUnsignedLongLong(token_object);
  if (PyErr_Occurred() != nullptr || !usable(table(self))) return nullptr;
  process::Slot& s = process::slot(process::slot_of(token));
  const uint64_t running = s.running.load();
  if (!process::names(token, s.word.load()) || (running & 0xfffff) != table(self)->tasks->index + 1u) Py_RETURN_NONE;
  return PyLong_FromUnsignedLongLong(running >> 20);
}

PyObject* table_reduce(PyObject* self, PyObject*) {
  if (!usable(table(self))) return nullptr;
  return Py_BuildValue("O(OO)", Py_TYPE(self), table(self)->tasks, table(self)->results);
}

template <class F>
PyCFunction method(F f) {
  return reinterpret_cast<PyCFunction>(reinterpret_cast<void*>(f));
}

PyMethodDef methods[] = {
    {"submit", method(table_submit), METH_FASTCALL, "submit(task, payload): to the workers."},
    {"submit_many", method(table_submit_many), METH_FASTCALL,
     "submit_many(first_task, payloads): consecutive numbers; returns how many were queued before one could not be "
     "pickled (the first one's error is raised)."},
    {"collect", table_collect, METH_VARARGS,
     "collect(timeout=None, limit=512): [(task, last, payload)]; [] at timeout or wake()."},
    {"wake", table_wake, METH_NOARGS, "Makes collect() return."},
    {"claim", table_claim, METH_VARARGS,
     "claim(timeout=None): (task, payload), noted in this process's slot; None at timeout or when closed and empty."},
    {"publish", method(table_publish), METH_FASTCALL,
     "publish(task, last, payload, dumps=None): a result, pickled by that function if it needs a pickle; the last one "
     "takes the note back. In a child that pickling has forked: nothing."},
    {"run", method(table_run), METH_FASTCALL,
     "run(task, function, items, first, starred, failed, apart=False): the outcomes of some items of a chunk, from the "
     "first on; what is not published before this process dies is reported with its loss, but for the item that was "
     "running. apart: an outcome that needs a pickle is the last of them."},
    {"close", table_close, METH_NOARGS, "claim() returns None when nothing is queued."},
    {"queued", table_queued, METH_NOARGS, "Tasks that no worker has claimed."},
    {"running", table_running, METH_O, "running(token): the task that the process of that slot has claimed, or None."},
    {"__reduce__", table_reduce, METH_NOARGS, nullptr},
    {nullptr, nullptr, 0, nullptr}};
PyType_Slot slots[] = {{Py_tp_init, reinterpret_cast<void*>(table_init)},
                       {Py_tp_new, reinterpret_cast<void*>(PyType_GenericNew)},
                       {Py_tp_dealloc, reinterpret_cast<void*>(table_dealloc)},
                       {Py_tp_methods, methods},
                       {Py_tp_doc, const_cast<char*>("A pool's tasks and results.")},
                       {0, nullptr}};
PyType_Spec spec = {"shoal._native.TaskTable", sizeof(TaskTable), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE, slots};

PyType_Slot tasks_slots[] = {{Py_tp_doc, const_cast<char*>("The tasks of a TaskTable.")}, {0, nullptr}};
PyType_Spec tasks_spec = {"shoal._native.TaskChannel", sizeof(Handle), 0, Py_TPFLAGS_DEFAULT, tasks_slots};

bool add(PyObject* module, const char* name, PyTypeObject* type) {
  return type != nullptr && PyModule_AddObjectRef(module, name, reinterpret_cast<PyObject*>(type)) == 0;
}

}  // namespace

bool add_task_types(PyObject* module) {
  tasks_type =
      reinterpret_cast<PyTypeObject*>(PyType_FromSpecWithBases(&tasks_spec, reinterpret_cast<PyObject*>(handle_type)));
  if (!add(module, "TaskChannel", tasks_type)) return false;
  register_kind(tasks_type, object::Kind::kTaskTable);
  load_failure_type = PyStructSequence_NewType(&load_failure_desc);
  worker_lost_type = PyStructSequence_NewType(&worker_lost_desc);
  table_type = reinterpret_cast<PyTypeObject*>(PyType_FromSpec(&spec));
  return add(module, "LoadFailure", load_failure_type) && add(module, "WorkerLost", worker_lost_type) &&
         add(module, "TaskTable", table_type);
}

}  // namespace shoal::bindings
