// Floor 8: how a Python object becomes a message and back. Exact int (64 bits), float, str, bytes, None, bool and small tuples of them are encoded here; everything
// else by the pickling functions that Python registers. Never called with an internal mutex held.
#pragma once

#include "bindings/handle.hpp"
#include "channel/ring.hpp"

namespace shoal::bindings {

// Low byte of a message's flags.
enum class Encoding : uint16_t {
  kNative = 0,   // the tagged stream below
  kPickle = 1,   // a pickle
  kBuffers = 2,  // a blob: a pickle and its out-of-band buffers
  kBytes = 3,    // one bytes object
  kText = 4,     // one str, UTF-8
  kRaw = 5,      // send_bytes: not an object
};

// A message ready to be put. It owns its blob until `sent`. `data` points into `stack`, or into `keep`.
struct Outgoing {
  channel::Message message;
  PyObject* keep = nullptr;
  alignas(16) char stack[channel::kInline];
};
// The tagged stream by itself: appends an object, or reads the next one.
char* write_plain(char* at, char* end, PyObject* obj);  // the new end; nullptr: no room, or it needs a pickle
PyObject* read_plain(const char*& at);

bool is_plain(PyObject* obj);  // it needs no pickle

// False with an exception set; then nothing is left to release. `dumps`: takes the place of the registered one.
bool encode(Outgoing& out, PyObject* obj, PyObject* dumps = nullptr);
bool encode_raw(Outgoing& out, const char* data, Py_ssize_t bytes);
void release(Outgoing& out, bool sent);

// A message taken. decode() consumes its blob.
struct Incoming {
  channel::Taken taken;
  alignas(16) char stack[channel::kInline];
};
PyObject* decode(Incoming& in);
// The bytes of it, as recv_bytes() wants them: of an object message, its pickle.
PyObject* decode_bytes(Incoming& in);
// The length of what decode_bytes() would return, for a raw message; -1 otherwise.
Py_ssize_t raw_length(const Incoming& in);

bool add_codec(PyObject* module);

// Attaches mentions to an empty blob owned by a slot that is reserved for a child, or drops them.
bool attach_mentions(const Mentions& mentions, process::Token child);

}  // namespace shoal::bindings
