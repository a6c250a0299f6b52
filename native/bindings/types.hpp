// Floor 8: the types that the module is made of.
#pragma once

#include "bindings/handle.hpp"

namespace shoal::bindings {

extern PyTypeObject* channel_type;

bool add_channel_type(PyObject* module);
bool add_wire_type(PyObject* module);
bool add_stream_type(PyObject* module);
bool add_multiplexer_type(PyObject* module);
bool add_task_types(PyObject* module);
bool add_memory_type(PyObject* module);
bool add_cell_types(PyObject* module);
bool add_processes(PyObject* module);  // the arena, process slots, references of messages
bool add_names(PyObject* module);      // named shared memory

}  // namespace shoal::bindings
