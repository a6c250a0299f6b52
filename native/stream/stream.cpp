#include "stream/stream.hpp"

#include <endian.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>

namespace shoal::stream {

namespace {

constexpr int kSignalSlice = 1'000;  // milliseconds; see sleep()
constexpr uint32_t kLongFollows = 0xFFFF'FFFF;
constexpr uint32_t kLongestShort = INT32_MAX;

bool never_blocks(int fd) {
  const int flags = fcntl(fd, F_GETFL);
  return flags < 0 || (flags & O_NONBLOCK) != 0;
}

// Until the descriptor is ready, or has an error to tell. A signal that comes between the interpreter's last look and the sleep does not end the sleep, so where
// signals matter it is bounded.
bool sleep(int fd, short events, sync::Wait& wait) {
  for (;;) {
    pollfd p{fd, events, 0};
    const int ready = poll(&p, 1, wait.interrupted != nullptr ? kSignalSlice : -1);
    if (ready > 0 || (ready < 0 && errno != EINTR)) return true;  // of another error the next call tells
    if (wait.should_stop()) return false;
  }
}

// A socket is never waited for in the call that moves the bytes. Of a pipe that cannot be asked, so it is looked at first; and no more is written than it then has room
// for.
enum class Kind { kSocket, kOther };

bool look_first(int fd, short events, sync::Wait& wait) {
  pollfd p{fd, events, 0};
  return poll(&p, 1, 0) > 0 || never_blocks(fd) || sleep(fd, events, wait);
}

// What to do after a call has moved no byte: true: again.
bool go_on(int fd, short events, Kind& kind, sync::Wait& wait, Result& result) {
  result = Result::kError;
  if (errno == ENOTSOCK && kind == Kind::kSocket) {
    kind = Kind::kOther;
    return true;
  }
  if (errno == EINTR) {
    result = Result::kInterrupted;
    return !wait.should_stop();
  }
  if (errno != EAGAIN) return false;
  if (never_blocks(fd)) {
    errno = EAGAIN;
    return false;
  }
  result = Result::kInterrupted;
  return sleep(fd, events, wait);
}

// What is left of the two after so many bytes, at most `limit`; returns how many parts that is.
size_t rest(const iovec (&parts)[2], size_t written, size_t limit, iovec (&left)[2]) {
  size_t count = 0;
  for (const iovec& part : parts) {
    const size_t skipped = std::min(written, part.iov_len);
    written -= skipped;
    const size_t bytes = std::min(part.iov_len - skipped, limit);
    limit -= bytes;
    if (bytes != 0) left[count++] = {static_cast<char*>(part.iov_base) + skipped, bytes};
  }
  return count;
}

}  // namespace

Result fill(int fd, char* to, size_t size, size_t& filled, sync::Wait& wait) {
  Kind kind = Kind::kSocket;
  while (filled < size) {
    if (kind == Kind::kOther && !look_first(fd, POLLIN, wait)) return Result::kInterrupted;
    const ssize_t n = kind == Kind::kSocket ? recv(fd, to + filled, size - filled, MSG_DONTWAIT)
                                            : read(fd, to + filled, size - filled);
    if (n == 0) return Result::kEnd;
    Result result{};
    if (n > 0)
      filled += static_cast<size_t>(n);
    else if (!go_on(fd, POLLIN, kind, wait, result))
      return result;
  }
  return Result::kDone;
}

Result drain(int fd, const iovec (&parts)[2], size_t& written, sync::Wait& wait) {
  const size_t size = parts[0].iov_len + parts[1].iov_len;
  Kind kind = Kind::kSocket;
  while (written < size) {
    if (kind == Kind::kOther && !look_first(fd, POLLOUT, wait)) return Result::kInterrupted;
    iovec left[2];
    const size_t count = rest(parts, written, kind == Kind::kSocket ? SSIZE_MAX : PIPE_BUF, left);
    msghdr message{};
    message.msg_iov = left;
    message.msg_iovlen = count;
    const ssize_t n =
        kind == Kind::kSocket ? sendmsg(fd, &message, MSG_DONTWAIT) : writev(fd, left, static_cast<int>(count));
    Result result{};
    if (n >= 0)
      written += static_cast<size_t>(n);
    else if (!go_on(fd, POLLOUT, kind, wait, result))
      return result;
  }
  return Result::kDone;
}

Head Head::of(uint64_t size) {
  Head head;
  const uint32_t first = htobe32(size > kLongestShort ? kLongFollows : static_cast<uint32_t>(size));
  std::memcpy(head.text, &first, sizeof first);
  const uint64_t second = htobe64(size);
  std::memcpy(head.text + kShort, &second, sizeof second);
  head.bytes = size > kLongestShort ? kLong : kShort;
  return head;
}

namespace {

uint32_t first_of(const Head& head) {
  uint32_t first = 0;
  std::memcpy(&first, head.text, sizeof first);
  return be32toh(first);
}

}  // namespace

size_t Head::expected() const { return bytes < kShort || first_of(*this) != kLongFollows ? kShort : kLong; }

uint64_t Head::size() const {
  const uint32_t first = first_of(*this);
  if (first != kLongFollows) return first > kLongestShort ? UINT64_MAX : first;
  uint64_t second = 0;
  std::memcpy(&second, text + kShort, sizeof second);
  return be64toh(second);
}

}  // namespace shoal::stream
