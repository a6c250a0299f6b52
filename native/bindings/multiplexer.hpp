// Floor 8: the multiplexer of a manager's server, as Python sees it (channel/multiplexer.hpp).
#pragma once

#include "bindings/wire.hpp"

namespace shoal::bindings {

extern PyTypeObject* multiplexer_type;

// After an answer that was put and whose bell has not rung: lends the wire to its multiplexer, and sleeps until it is back. Returns the request with which it was
// handed back, or nullptr, without an exception: the thread is to wait for the next one itself. `kept`: the last answer, to be kept until then.
PyObject* lend(Wire* w, PyObject*& kept);

}  // namespace shoal::bindings
