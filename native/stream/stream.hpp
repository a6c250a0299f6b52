// Floor 5: bytes through a descriptor (a socket, a pipe), so that an interruption loses none. Nothing here is shared memory: how far a message has come is known to the
// process alone, and goes with it; the other side is told by the kernel.
//
// A message is framed as the standard library frames it: its length, four bytes in network order, and its bytes. A length above 2 GiB - 1 is written as -1 and eight
// bytes more.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>

#include "sync/wait.hpp"

namespace shoal::stream {

enum class Result {
  kDone,
  kEnd,          // of file
  kInterrupted,  // the wait was given up: an exception is set
  kError,        // errno; of a descriptor that does not block EAGAIN, too
};

// Reads until `filled` is `size`. Whatever is returned, `filled` counts the bytes that have been read, and a later call goes on from there. Reads none beyond.
//
// `brisk`: the other side is expected to have written, or to write at once. Then it sleeps in read() itself: on AF_UNIX, between two cores, there and back takes half as long
// as with poll() (measured: 65 us, 140 us; a matter of where the kernel wakes the sleeper). The price is that a signal which comes right before that is noticed with the
// message only.
Result fill(int fd, char* to, size_t size, size_t& filled, sync::Wait& wait, bool brisk);

// Writes what two buffers hold, one after the other, until `written` is the sum of their sizes; the same.
Result drain(int fd, const iovec (&parts)[2], size_t& written, sync::Wait& wait);

// What goes before a message.
struct Head {
  static constexpr size_t kShort = 4, kLong = 12;
  char text[kLong] = {};
  size_t bytes = 0;  // of `text`: written, or read so far

  static Head of(uint64_t size);
  // How many bytes it takes, as far as can be told by what has been read.
  size_t expected() const;
  bool complete() const { return bytes == expected(); }
  // Of the message; beyond any size if the length is none that anybody writes. Only of a complete one.
  uint64_t size() const;
};

}  // namespace shoal::stream
