// Floor 1: the shared memory of one process tree, a sparse memfd.
//
// Everything is named by its offset in the file or by its index in a table. A process maps an extent when it first meets it and never
// unmaps control memory. `commit` reserves memory before it is touched, so that running out is an error with figures in it, never SIGBUS.
#pragma once

#include <atomic>
#include <cstdint>

#include "arena/layout.hpp"
#include "os/system.hpp"

namespace shoal::arena {

// Tables that grow: how many of their cells have been given memory ("grown"), which is also where scans end.
enum Table : uint32_t {
  kNodeTable,
  kObjectTable,
  kSegmentTable,
  kNameTable,
  kBlobTable,
  kTableCount = kBlobTable + kBlobClasses
};

struct Header {
  uint64_t magic;
  uint64_t id;     // random: tells two arenas apart in a pickled reference
  uint64_t quota;  // bytes
  uint32_t cores;
  std::atomic<uint64_t> fork_sequence;  // counts forks; see object/object.hpp
  std::atomic<uint32_t> slots_changed;  // futex word: the watcher sleeps on it
  std::atomic<uint64_t> watcher;        // start time, its low half | pid; see process/slots.hpp
  std::atomic<uint32_t> recoveries;     // counts processes that have gone and been recovered
  std::atomic<uint32_t> limbo;          // retired objects that could not be freed yet: a hint
  std::atomic<uint64_t> kept;           // bytes that free blobs keep: a hint
  std::atomic<uint32_t> kept_segments;  // free segments with memory: a hint
  alignas(64) std::atomic<uint32_t> grown[kTableCount];
  alignas(64) std::atomic<uint32_t> permits[kPermits];  // spinner permits: slot + 1, or 0
};
static_assert(sizeof(Header) <= kRecoveryAt, "the header has a page");

enum class Status { kOk, kNoMemory, kLostDescriptor, kSystem };

// What the last failed commit or attach had to say, per thread.
struct Failure {
  uint64_t wanted = 0, used = 0, quota = 0;
  int error = 0;
};
Failure& last_failure();

// How often cell() has returned nullptr in this thread.
uint64_t unreachable();

Status create(uint64_t quota_bytes);  // quota 0: three quarters of memory_limit()
Status attach(int fd);                // takes the descriptor over
bool attached();
int descriptor();
Header& header();

// Makes [offset, offset + bytes) safe to touch.
Status commit(uint64_t offset, uint64_t bytes);
// Gives the memory of whole pages in the range back; reading them again gives zeros (after another commit).
Status punch(uint64_t offset, uint64_t bytes);
uint64_t bytes_in_use();

// Addresses. Tables are always mapped; cells on demand: nullptr when the kernel refuses (errno tells).
char* table(uint64_t offset);
char* cell(uint64_t offset, uint64_t bytes);
// Unmaps a cell of its own mapping (blobs of one extent and more); control memory stays mapped.
void unmap(uint64_t offset, uint64_t bytes);

template <class T>
T* at_table(uint64_t offset, uint64_t index) {
  return reinterpret_cast<T*>(table(offset)) + index;
}

inline uint32_t grown(uint32_t t) { return header().grown[t].load(std::memory_order_acquire); }

}  // namespace shoal::arena
