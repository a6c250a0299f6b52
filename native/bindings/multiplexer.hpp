// Floor 8: the multiplexer of a manager's server, as Python sees it (channel/multiplexer.hpp).
#pragma once

#include "bindings/wire.hpp"

namespace shoal::bindings {

extern PyTypeObject* multiplexer_type;

// Lends a wire to its multiplexer, and sleeps until it is back: with a request that is to be answered in this thread, with nothing (the next request is to be
// waited for here), or to be closed.
enum class Back { kNothing, kRequest, kHangUp };
Back lend(Wire* w, PyObject*& request);

}  // namespace shoal::bindings
