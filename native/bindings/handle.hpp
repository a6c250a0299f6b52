// Floor 8: Handle, the base of every shared object's Python type: an index and a generation, held by this process as long as a handle of it lives.
#pragma once

#include "bindings/python.hpp"
#include "object/object.hpp"

namespace shoal::bindings {

struct Handle {
  PyObject_HEAD uint32_t index;
  uint32_t generation;
  object::Kind kind;
  bool held;    // false: not initialised, or let go
  bool closed;  // the user's close()
  void* body;   // sync_types.hpp's: where the object's body is; nullptr: not looked up yet
};

extern PyTypeObject* handle_type;
bool add_handle_type(PyObject* module);

// For tp_init of a derived type: the object has just been made and published; `self` takes it over (letting go of what it had).
void hold_new(Handle* self, object::Kind kind, uint32_t index, uint32_t generation);
// False with ValueError set when __init__ has not run or the object was let go.
bool check_held(const Handle* self);
void let_go(Handle* self);

// A message is being pickled by this thread: references to objects are noted in it. Nested ones each have their own.
struct Mentions {
  Mentions* outer;
  uint32_t count, room;
  struct Entry {
    uint32_t object, generation;
  }* entries;
};
void begin_mentions(Mentions& mentions);
void end_mentions(Mentions& mentions);  // frees the entries
uint32_t mentioned();                   // how many the innermost has noted

// Methods of every handle.
PyObject* handle_reference(PyObject* self, PyObject*);        // _reference()
PyObject* handle_adopt(PyObject* type, PyObject* reference);  // classmethod _adopt(reference)

// set_carrier(callable): what is asked, with handle and reference, for the reference that goes into a pickle which is no message of ours.
PyObject* set_carrier(PyObject*, PyObject* callable);

// Which kind of object a type's handles are for, so that a reference of another kind is refused. Set once per type by its module code.
void register_kind(PyTypeObject* type, object::Kind kind);

}  // namespace shoal::bindings
