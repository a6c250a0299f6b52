// Floor 8: the module shoal._native. nanobind makes the module; the types are plain C types, because their methods sleep (see bindings/python.hpp) and because
// a lock's `with` has to cost less than a wrapped call.
#include <nanobind/nanobind.h>

#include "bindings/blob_type.hpp"
#include "bindings/codec.hpp"
#include "bindings/sync_types.hpp"
#include "bindings/types.hpp"

NB_MODULE(_native, m) {
  using namespace shoal::bindings;
  m.doc() = "The native core of shoal. Not for direct use.";
  PyObject* module = m.ptr();
  if (!add_handle_type(module) || !add_blob_type(module) || !add_codec(module) || !add_channel_type(module) ||
      !add_multiplexer_type(module) || !add_wire_type(module) || !add_stream_type(module) || !add_sync_types(module) ||
      !add_task_types(module) || !add_memory_type(module) || !add_cell_types(module) || !add_processes(module) ||
      !add_names(module))
    throw nanobind::python_error();
}
