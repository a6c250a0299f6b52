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

constexpr uint32_t kLongFollows = 0xFFFF'FFFF;
constexpr uint32_t kLongestShort = INT32_MAX;

bool never_blocks(int fd) {
  const int flags = fcntl(fd, F_GETFL);
  return flags < 0 || (flags & O_NONBLOCK) != 0;
}

// Until the descriptor is ready, or has an error to tell, which the next call does. A signal that comes between the interpreter's last look and the sleep does not end the
// sleep, so where signals matter it is bounded.
bool sleep(int fd, short events, sync::Wait& wait) {
  for (;;) {
    pollfd p{fd, events, 0};
    const int ready = poll(&p, 1, wait.interrupted != nullptr ? sync::kSignalSlice : -1);
    if (ready > 0 || (ready < 0 && errno != EINTR)) return true;
    if (wait.should_stop()) return false;
  }
}

// The same, at once for a descriptor that does not block.
bool look_first(int fd, short events, sync::Wait& wait) {
  pollfd p{fd, events, 0};
  return poll(&p, 1, 0) > 0 || never_blocks(fd) || sleep(fd, events, wait);
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

Result fill(int fd, char* to, size_t size, size_t& filled, sync::Wait& wait, bool brisk) {
  while (filled < size) {
    if (wait.interrupted != nullptr && !brisk && !look_first(fd, POLLIN, wait)) return Result::kInterrupted;
    const ssize_t n = read(fd, to + filled, size - filled);
    if (n == 0) return Result::kEnd;
    if (n > 0)
      filled += static_cast<size_t>(n);
    else if (errno != EINTR)
      return Result::kError;
    else if (wait.should_stop())
      return Result::kInterrupted;
  }
  return Result::kDone;
}

// A socket is never waited for in the call that moves the bytes. Of a pipe that cannot be asked, so it is looked at first; and no more is written than it then has room
// for.
Result drain(int fd, const iovec (&parts)[2], size_t& written, sync::Wait& wait) {
  const size_t size = parts[0].iov_len + parts[1].iov_len;
  for (bool socket = true; written < size;) {
    if (!socket && !look_first(fd, POLLOUT, wait)) return Result::kInterrupted;
    iovec left[2];
    msghdr message{};
    message.msg_iov = left;
    message.msg_iovlen = rest(parts, written, socket ? SSIZE_MAX : PIPE_BUF, left);
    const ssize_t n =
        socket ? sendmsg(fd, &message, MSG_DONTWAIT) : writev(fd, left, static_cast<int>(message.msg_iovlen));
    if (n >= 0) {
      written += static_cast<size_t>(n);
    } else if (socket && errno == ENOTSOCK) {
      socket = false;
    } else if (errno == EINTR) {
      if (wait.should_stop()) return Result::kInterrupted;
    } else if (errno != EAGAIN) {
      return Result::kError;
    } else if (never_blocks(fd)) {
      errno = EAGAIN;
      return Result::kError;
    } else if (!sleep(fd, POLLOUT, wait)) {
      return Result::kInterrupted;
    }
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
