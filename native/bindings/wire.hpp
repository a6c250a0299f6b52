// Floor 8: Wire, one end of a pipe between processes of a tree: two channels for the bytes, a socket for what kernels are good at (end of file, hang-up), and two
// eventfds as bells, one for each direction. Whoever sleeps, sleeps in poll() on socket and bell.
//
// The ends of a *private* wire lie in one process each. Its bells are rung late (channel/doorbell.hpp), and its reader sleeps in an epoll that tells each ring
// once: no need to read the bell, and a microsecond less than poll().
#pragma once

#include "bindings/codec.hpp"
#include "bindings/types.hpp"
#include "channel/channel.hpp"

namespace shoal::bindings {

struct Wire {
  PyObject_HEAD Handle* incoming;  // nullptr: cannot receive
  Handle* outgoing;
  int socket, bell_in, bell_out;
  int epoll;            // fileno(), or where a private wire's reader sleeps: made when first asked for
  uint32_t closings;    // of the outgoing channel, when the socket was last looked at
  uint32_t recoveries;  // of the tree, likewise
  uint32_t sent;        // since then
  bool gone;            // the other end has hung up: for good
  bool is_private;
  PyObject* multiplexer;  // of a server, which lends it this wire while its client is lively; or nullptr
  PyObject* kept;         // the last answer: until the next one the client may be about to refer to something in it
  uint32_t run;           // exchanges in a row …
  uint64_t run_began;     // … since then
  sync::Company company;  // with the other end of a private wire
  int progress;           // of the last exchange()
  pid_t owner;            // of the epoll descriptor: a forked child makes its own
};

constexpr int kNothingSent = 0, kSent = 1, kAnswered = 2;  // how far an exchange has got

PyObject* closed_error();
bool check_writable(const Wire* w);
bool check_readable(const Wire* w);
bool open_epoll(Wire* w, uint32_t of_bell);  // false: errno says why

enum class Look { kMessage, kNothing, kEnd, kInterrupted, kNoMemory };
// Waits until `taken` holds a message (or, with taken == nullptr, until there is one). The GIL may be let go of.
Look look(Wire* w, channel::Taken* taken, GilWait& gil);
// A private wire's bell may be left to be rung later (receive). None, or nullptr with an exception set.
enum class Bell { kNow, kLater };
PyObject* put_message(Wire* w, Outgoing& out, Bell when = Bell::kNow);
// encode(), and a look whether the pickling has closed the wire.
bool encode_for(const Wire* w, Outgoing& out, PyObject* obj);
PyObject* decode_any(Incoming& in);
// A message, or false with an exception set. `owes_bell`: the other end of this private wire has not been told yet of what was put.
bool receive(Wire* w, Incoming& in, bool owes_bell = false);

}  // namespace shoal::bindings
