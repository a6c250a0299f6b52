// Floor 8: a received blob as a Python object that offers the buffer protocol; the blob goes with the last view of it.
#pragma once

#include "bindings/python.hpp"
#include "blob/blob.hpp"

namespace shoal::bindings {

bool add_blob_type(PyObject* module);
PyObject* new_blob_object(blob::Name name);                              // takes the blob over; on failure it is freed
PyObject* slice_of(PyObject* blob_object, uint64_t at, uint64_t bytes);  // a writable memoryview

}  // namespace shoal::bindings
