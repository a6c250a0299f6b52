// Floor 8: what the types of the synchronisation objects share.
//
// The bodies lie in memory that is never unmapped, so a handle keeps the address of its own: set on first use, and only ever of a held object.
#pragma once

#include "bindings/handle.hpp"

namespace shoal::bindings {

bool add_sync_types(PyObject* module);

bool add_lock_types(PyObject* module);
bool add_semaphore_type(PyObject* module);
bool add_event_type(PyObject* module);
bool add_condition_type(PyObject* module);
bool add_barrier_type(PyObject* module);

// The body; nullptr with an exception set. Slow: for the first use, and for a process that has no slot.
template <class Body>
Body* find_body(Handle* self) {
  if (!check_held(self) || !ensure_attached()) return nullptr;
  Body* body = object::body<Body>(self->index);
  if (body == nullptr) raise_status(arena::Status::kSystem);
  self->body = body;
  return body;
}
template <class Body>
Body* body_of(PyObject* self) {
  auto* handle = reinterpret_cast<Handle*>(self);
  return handle->body != nullptr && process::mine() != process::kNoSlot ? static_cast<Body*>(handle->body)
                                                                        : find_body<Body>(handle);
}

// Makes the object of a handle. `fill` initialises the body before anyone can see it. 0 or -1, as tp_init wants it.
template <class Body, class Fill>
int make_object(PyObject* self, object::Kind kind, Fill fill) {
  auto* handle = reinterpret_cast<Handle*>(self);
  if (!ensure_attached()) return -1;
  uint32_t index = 0;
  if (const arena::Status s = object::claim(kind, index); s != arena::Status::kOk) {
    raise_status(s);
    return -1;
  }
  Body* body = object::body<Body>(index);  // mapped by claim
  fill(*body);
  hold_new(handle, kind, index, object::publish(index));
  handle->body = body;
  return 0;
}

// Arguments (block=True, timeout=None) of an acquire; (timeout=None) if `block` is nullptr. False with an exception set.
bool read_arguments(const char* function, PyObject* const* args, Py_ssize_t count, PyObject* names, bool* block,
                    PyObject** timeout);

// Sets up a wait of at most `timeout` seconds (a number, None or nullptr: for ever). False with an exception set.
bool start_wait(GilWait& gil, bool block, PyObject* timeout);

PyObject* raise_no_node();  // MemoryError: no place for one more waiter

}  // namespace shoal::bindings
