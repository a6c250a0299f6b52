// What the tests of channels, lifetimes and the arena share, beside sync_support.hpp: channels, messages, and counts of what is in use.
#pragma once

#include <cstring>
#include <random>

#include "channel/channel.hpp"
#include "channel/segment.hpp"
#include "sync_support.hpp"

#if defined(__SANITIZE_THREAD__)
#define SHOAL_SANITIZED 10
#elif defined(__SANITIZE_ADDRESS__)
#define SHOAL_SANITIZED 4
#else
#define SHOAL_SANITIZED 1
#endif

namespace shoal::test {

// Like CHECK, with figures: what is said must name what failed.
#define CHECK_EQUAL(left, right)                                                                             \
  do {                                                                                                       \
    const auto l_ = static_cast<unsigned long long>(left), r_ = static_cast<unsigned long long>(right);      \
    if (l_ != r_) {                                                                                          \
      std::fprintf(stderr, "%s:%d: %s is %llu, not %s = %llu\n", __FILE__, __LINE__, #left, l_, #right, r_); \
      std::_Exit(1);                                                                                         \
    }                                                                                                        \
  } while (false)

constexpr uint32_t kSlowdown = SHOAL_SANITIZED;  // how much less to do

struct Channel {
  uint32_t index = 0, generation = 0;
  explicit Channel(channel::Options options = {}) {
    CHECK(channel::create(options, index, generation) == arena::Status::kOk);
  }
  ~Channel() { recovery::let_go(index); }
  Channel(const Channel&) = delete;
  Channel& operator=(const Channel&) = delete;
  channel::Channel& operator*() const { return *channel::at(index); }
  uint32_t length() const { return channel::length(channel::at(index)->ring); }
};

// A payload that shows if it has been changed: each byte follows from the seed and its place.
inline void fill(char* at, uint64_t bytes, uint64_t seed) {
  for (uint64_t i = 0; i < bytes; ++i) at[i] = static_cast<char>(seed * 31 + i * 7 + (i >> 8));
}
inline bool is_filled(const char* at, uint64_t bytes, uint64_t seed) {
  for (uint64_t i = 0; i < bytes; ++i)
    if (at[i] != static_cast<char>(seed * 31 + i * 7 + (i >> 8))) return false;
  return true;
}

// Puts a message of that many bytes, inline or as a blob as a user's would be.
inline channel::Result put(uint32_t index, uint64_t tag, uint64_t bytes, sync::Wait wait) {
  channel::Message m;
  char buffer[channel::kInline];
  m.tag = tag;
  if (bytes <= channel::kInline) {
    fill(buffer, bytes, tag);
    m.data = buffer;
    m.bytes = static_cast<uint32_t>(bytes);
  } else {
    if (blob::allocate(bytes, 0, m.blob) != arena::Status::kOk) return channel::Result::kNoMemory;
    fill(blob::payload(blob::head(m.blob)), bytes, tag);
    m.blob_bytes = bytes;
  }
  const channel::Result r = channel::put(index, m, wait);
  if (r != channel::Result::kDone && m.blob.there()) CHECK(blob::free_owned(m.blob, process::mine()));
  return r;
}

struct Got {
  channel::Result result = channel::Result::kEmpty;
  uint64_t tag = 0, bytes = 0;
};
// Takes a message, looks at its payload, and lets go of it.
inline Got get(uint32_t index, sync::Wait wait) {
  channel::Taken taken;
  char buffer[channel::kInline];
  taken.buffer = buffer;
  Got got;
  got.result = channel::get(index, taken, wait);
  if (got.result != channel::Result::kDone) return got;
  got.tag = taken.tag;
  if (taken.blob.there()) {
    blob::Head* h = blob::head(taken.blob);
    CHECK(h != nullptr && blob::load(taken.blob).owner() == process::mine());
    got.bytes = h->payload_bytes;
    CHECK(is_filled(blob::payload(h), got.bytes, got.tag));
    recovery::let_go(taken.blob, process::mine());
  } else {
    got.bytes = taken.bytes;
    CHECK(is_filled(buffer, got.bytes, got.tag));
  }
  return got;
}

inline uint32_t objects_in_use() {
  uint32_t count = 0;
  for (uint32_t i = 0; i < arena::grown(arena::kObjectTable); ++i)
    count += object::load(i).state() != object::State::kFree ? 1 : 0;
  return count;
}
inline uint32_t bits_without_object() {
  uint32_t count = 0;
  for (uint32_t i = 0; i < arena::grown(arena::kObjectTable); ++i)
    count += object::load(i).state() == object::State::kFree && !object::held_by_nobody(i) ? 1 : 0;
  return count;
}
inline uint32_t segments_in_use() {
  uint32_t count = 0;
  for (uint32_t i = 0; i < arena::grown(arena::kSegmentTable); ++i)
    count += channel::is_free(channel::segment_word(i).load()) ? 0 : 1;
  return count;
}
inline uint32_t blobs_in_use() {
  uint32_t count = 0;
  blob::for_each([&](blob::Name, blob::Word) { ++count; });
  return count;
}
inline uint32_t permits_in_use() {
  uint32_t count = 0;
  for (std::atomic<uint32_t>& p : arena::header().permits) count += p.load() != 0 ? 1 : 0;
  return count;
}
inline uint32_t slots_in_use() {
  uint32_t count = 0;
  for (uint32_t i = 0; i < arena::kSlots; ++i)
    count += process::state_of(process::slot(i).word.load()) != process::State::kFree ? 1 : 0;
  return count;
}
inline uint32_t sleepers() {  // threads that have said they are about to sleep
  uint32_t count = 0;
  for (uint32_t i = 0; i < arena::grown(arena::kNodeTable); ++i)
    count += process::node(i).owner.load() != 0 && process::node(i).futex.load() != 0 ? 1 : 0;
  return count;
}

inline void sweep() {
  recovery::enter();
  recovery::sweep_retired();
  recovery::leave();
}

// Nothing is left but this process.
inline void check_nothing_left() {
  sweep();
  CHECK_EQUAL(slots_in_use(), 1);
  CHECK_EQUAL(objects_in_use(), 0);
  CHECK_EQUAL(bits_without_object(), 0);
  CHECK_EQUAL(segments_in_use(), 0);
  CHECK_EQUAL(blobs_in_use(), 0);
  CHECK_EQUAL(nodes_in_use(), 0);
  CHECK_EQUAL(permits_in_use(), 0);
}

template <class T>
T* shared_memory(size_t count = 1) {
  void* p = mmap(nullptr, sizeof(T) * count, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  CHECK(p != MAP_FAILED);
  return static_cast<T*>(p);
}

// A child that must succeed.
inline void finish(pid_t pid) {
  int status = 1;
  CHECK(waitpid(pid, &status, 0) == pid);
  CHECK_EQUAL(status, 0);
}

}  // namespace shoal::test
