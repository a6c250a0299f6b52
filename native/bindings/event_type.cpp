// Floor 8: Event.
#include "sync/event.hpp"

#include "bindings/sync_types.hpp"

namespace shoal::bindings {

namespace {

using sync::EventBody;
using sync::Waited;

EventBody* body(PyObject* self) { return body_of<EventBody>(self); }

int event_init(PyObject* self, PyObject* args, PyObject* kwargs) {
  static const char* names[] = {nullptr};
  if (!PyArg_ParseTupleAndKeywords(args, kwargs, "", const_cast<char**>(names))) return -1;
  return make_object<EventBody>(self, object::Kind::kEvent, [](EventBody&) {});
}

PyObject* event_is_set(PyObject* self, PyObject*) {
  EventBody* b = body(self);
  return b == nullptr ? nullptr : PyBool_FromLong(sync::is_set(*b));
}

PyObject* event_set(PyObject* self, PyObject*) {
  EventBody* b = body(self);
  if (b == nullptr) return nullptr;
  sync::set(*b);
  Py_RETURN_NONE;
}

PyObject* event_clear(PyObject* self, PyObject*) {
  EventBody* b = body(self);
  if (b == nullptr) return nullptr;
  sync::clear(*b);
  Py_RETURN_NONE;
}

PyObject* event_wait(PyObject* self, PyObject* const* args, Py_ssize_t count, PyObject* names) {
  PyObject* timeout = nullptr;
  if ((count != 0 || names != nullptr) && !read_arguments("wait", args, count, names, nullptr, &timeout))
    return nullptr;
  EventBody* b = body(self);
  if (b == nullptr) return nullptr;
  if (sync::is_set(*b)) Py_RETURN_TRUE;
  GilWait gil;
  if (!start_wait(gil, true, timeout)) return nullptr;
  const Waited how = sync::wait(*b, reinterpret_cast<Handle*>(self)->index, gil.wait);
  end_wait(gil);
  return how == Waited::kInterrupted ? nullptr : PyBool_FromLong(how == Waited::kYes);
}

PyMethodDef methods[] = {
    {"is_set", event_is_set, METH_NOARGS, "is_set($self, /)\n--\n\nWhether the event is set."},
    {"set", event_set, METH_NOARGS, "set($self, /)\n--\n\nSet the event: everybody who waits goes on."},
    {"clear", event_clear, METH_NOARGS, "clear($self, /)\n--\n\nReset the event."},
    {"wait", reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(event_wait)), METH_FASTCALL | METH_KEYWORDS,
     "wait($self, /, timeout=None)\n--\n\n"
     "Wait until the event is set. ``timeout`` is in seconds; false when it passed."},
    {nullptr, nullptr, 0, nullptr}};
PyType_Slot slots[] = {{Py_tp_init, reinterpret_cast<void*>(event_init)},
                       {Py_tp_methods, methods},
                       {Py_tp_doc, const_cast<char*>("A flag between processes that one can wait for.")},
                       {0, nullptr}};
PyType_Spec spec = {"shoal._native.EventBase", sizeof(Handle), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE, slots};

}  // namespace

bool add_event_type(PyObject* module) {
  PyObject* type = PyType_FromSpecWithBases(&spec, reinterpret_cast<PyObject*>(handle_type));
  if (type == nullptr) return false;
  register_kind(reinterpret_cast<PyTypeObject*>(type), object::Kind::kEvent);
  return PyModule_AddObjectRef(module, "EventBase", type) == 0;
}

}  // namespace shoal::bindings
