// Floor 6: segments, 64 KiB of messages each. A segment's word says whose it is (0: free), and the claim is its compare-and-swap: links of a ring, or
// the accounts of a joinable queue. A link claimed but not yet linked is found by the repair of the ring that it names.
#pragma once

#include "arena/cells.hpp"

namespace shoal::channel {

struct Segment {
  std::atomic<uint32_t> next;
  char padding[60];
};
static_assert(sizeof(Segment) == 64);
constexpr uint32_t kFirstOffset = sizeof(Segment);
constexpr uint32_t kLastOffset = arena::kSegmentBytes - 16;  // where the end mark still fits

inline std::atomic<uint64_t>& segment_word(uint32_t index) {
  return *arena::at_table<std::atomic<uint64_t>>(arena::kSegmentWordsAt, index);
}
inline char* segment(uint32_t index) {
  return arena::cell(arena::kSegmentsAt + index * arena::kSegmentBytes, arena::kSegmentBytes);
}

constexpr uint64_t kCold = 1ull << 33;  // free, and its memory has been given back
constexpr bool is_free(uint64_t word) { return word == 0 || word == kCold; }
constexpr uint64_t link_of(uint32_t object) { return object + 1ull; }
constexpr uint64_t accounts_of(uint32_t object) { return 1ull << 32 | (object + 1ull); }

arena::Status claim_segment(uint64_t owner, uint32_t& index);
void free_segments_of(uint32_t object);  // recovery: of an object that was never published
void free_segment(uint32_t index);
// The same for one whose owner was killed, perhaps before it had its memory or after it was given back.
void discard_segment(uint32_t index);

}  // namespace shoal::channel
