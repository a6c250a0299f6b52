// Floor 8: waiting at a wire.
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>

#include "bindings/wire.hpp"
#include "channel/doorbell.hpp"
#include "sync/company.hpp"

namespace shoal::bindings {

namespace {

constexpr uint32_t kOfSocket = 0, kOfBell = 1;
constexpr size_t kShown = 64;  // bytes in an error

// Until the bell rings or the socket has something to say. True: the socket has.
bool sleep_in_poll(int socket, int bell, int milliseconds, channel::Channel& c, bool silence) {
  pollfd p[2] = {{socket, POLLIN, 0}, {bell, POLLIN, 0}};
  if (poll(p, 2, milliseconds) < 0) return false;  // a signal: the caller looks at them
  // A bell that rang for nothing (a killed producer's, or one that another reader has answered) is silenced by get_now() or here.
  if (p[1].revents != 0 && silence && channel::is_empty(c.ring)) channel::silence(c, bell);
  return p[0].revents != 0;
}
bool sleep_in_epoll(int epoll, int milliseconds) {
  epoll_event events[2];
  const int n = epoll_wait(epoll, events, 2, milliseconds);
  if (n < 0) return errno != EINTR;  // closed by another thread
  return std::any_of(events, events + n, [](const epoll_event& e) { return e.data.u32 == kOfSocket; });
}

// Messages go through memory, and the socket is for the end of file. Bytes in it were written by the program, past `send`, and stay there: what becomes
// of them is not known, so the same is said at every call.
void raise_end(int socket) {
  char text[kShown];
  const ssize_t bytes = recv(socket, text, sizeof text, MSG_PEEK | MSG_DONTWAIT);
  if (bytes <= 0) {
    PyErr_SetNone(PyExc_EOFError);
    return;
  }
  PyObject* shown = PyBytes_FromStringAndSize(text, bytes);
  if (shown == nullptr) return;
  PyErr_Format(
      PyExc_OSError,
      "no message but %R was written to the other end's descriptor, which a pipe's messages do not go through: "
      "use send_bytes() there, or os.pipe()",
      shown);
  Py_DECREF(shown);
}

}  // namespace

PyObject* closed_error() {
  PyErr_SetString(PyExc_OSError, "handle is closed");
  return nullptr;
}

bool check_readable(const Wire* w) {
  if (w->socket < 0) return closed_error() != nullptr;
  if (w->incoming != nullptr) return true;
  PyErr_SetString(PyExc_OSError, "connection is write-only");
  return false;
}

bool open_epoll(Wire* w, uint32_t of_bell) {
  w->epoll = os::above_standard(epoll_create1(EPOLL_CLOEXEC));
  if (w->epoll < 0) return false;
  epoll_event event{EPOLLIN | EPOLLRDHUP, {.u32 = kOfSocket}};
  epoll_ctl(w->epoll, EPOLL_CTL_ADD, w->socket, &event);
  event = {of_bell, {.u32 = kOfBell}};
  epoll_ctl(w->epoll, EPOLL_CTL_ADD, w->bell_in, &event);
  w->owner = getpid();
  return true;
}

Look look(Wire* w, channel::Taken* taken, GilWait& gil) {
  const uint32_t index = w->incoming->index;
  channel::Channel& c = *channel::at(index);
  const int socket = w->socket, bell = w->is_private ? -1 : w->bell_in, epoll = w->epoll;
  const bool is_private = w->is_private;
  const uint64_t deadline = gil.wait.deadline;
  bool ended = false;
  for (bool spun = false;;) {
    if (taken != nullptr) {
      const channel::Result r = channel::get_now(index, *taken, gil.wait, bell);
      if (r == channel::Result::kDone) return Look::kMessage;
      if (r == channel::Result::kInterrupted) return Look::kInterrupted;
      if (r == channel::Result::kNoMemory) return Look::kNoMemory;
    } else if (!channel::is_empty(c.ring)) {
      return Look::kMessage;
    }
    if (ended) return Look::kEnd;
    if (deadline == 0) {
      // What a peer sent before it went comes first: look at the socket, then once more at the ring.
      pollfd p{socket, POLLIN, 0};
      if (poll(&p, 1, 0) <= 0) return Look::kNothing;
      ended = true;
      continue;
    }
    gil.wait.begin();
    if (!spun) {
      spun = true;
      const auto asks = [&] { return !channel::is_empty(c.ring); };
      if (is_private ? sync::spin_for(c.putter, w->company, asks) : sync::spin(asks)) continue;
    }
    if (gil.wait.should_stop()) return Look::kInterrupted;
    if (!(is_private ? channel::listen(c) : channel::arm(index, channel::kArmedOnce, bell, gil.wait))) continue;
    const int milliseconds = next_sleep(gil, deadline);
    if (milliseconds == 0) return Look::kNothing;
    ended = is_private ? sleep_in_epoll(epoll, milliseconds)
                       : sleep_in_poll(socket, bell, milliseconds, c, taken == nullptr);
  }
}

bool receive(Wire* w, Incoming& in, bool owes_bell) {
  if (!check_readable(w)) return false;
  GilWait gil;
  begin_wait_for_ever(gil);
  if (owes_bell) {  // without the GIL: the system call takes as long as another thread needs for a request
    channel::Channel& c = *channel::at(w->outgoing->index);
    const int bell = w->bell_out;
    gil.wait.begin();
    channel::call(c, bell);
  }
  in.taken.buffer = in.stack;
  const Look seen = look(w, &in.taken, gil);
  end_wait(gil);
  if (seen == Look::kMessage) return true;
  if (seen == Look::kNoMemory) raise_status(arena::Status::kSystem);
  if (seen == Look::kEnd || seen == Look::kNothing) raise_end(w->socket);
  return false;
}

}  // namespace shoal::bindings
