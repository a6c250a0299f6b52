#include "channel/segment.hpp"

namespace shoal::channel {

namespace {
constexpr arena::TableShape kShape = {
    arena::kSegmentTable,
    arena::kSegments,
    8,
    {{arena::kSegmentWordsAt, 8}, {arena::kSegmentsAt, arena::kSegmentBytes}, {0, 0}}};
thread_local uint32_t hint_ = 0;
constexpr uint32_t kKeptMost = 256;  // free segments that keep their memory: 16 MiB, for the next backlog

uint64_t offset_of(uint32_t index) { return arena::kSegmentsAt + index * arena::kSegmentBytes; }
}  // namespace

arena::Status claim_segment(uint64_t owner, uint32_t& index) {
  bool cold = false;
  arena::Status status = arena::claim_cell(
      kShape, hint_, [](uint32_t i) { return is_free(segment_word(i).load(std::memory_order_relaxed)); },
      [&](uint32_t i) {
        uint64_t found = segment_word(i).load();
        cold = found == kCold;
        return is_free(found) && segment_word(i).compare_exchange_strong(found, owner);
      },
      index);
  if (status != arena::Status::kOk) return status;
  if (cold) {
    status = arena::commit(offset_of(index), arena::kSegmentBytes);
    if (status != arena::Status::kOk) {
      segment_word(index).store(kCold);
      return status;
    }
  } else if (const uint32_t kept = arena::header().kept_segments.load(std::memory_order_relaxed); kept != 0) {
    arena::header().kept_segments.store(kept - 1, std::memory_order_relaxed);
  }
  char* base = segment(index);
  if (base == nullptr) {
    free_segment(index);
    return arena::Status::kSystem;
  }
  reinterpret_cast<Segment*>(base)->next.store(UINT32_MAX, std::memory_order_relaxed);
  return status;
}

void free_segments_of(uint32_t object) {
  const uint32_t end = arena::grown(arena::kSegmentTable);
  for (uint32_t i = 0; i < end; ++i) {
    const uint64_t owner = segment_word(i).load();
    if (owner == link_of(object) || owner == accounts_of(object)) discard_segment(i);
  }
}

void free_segment(uint32_t index) {
  std::atomic<uint32_t>& kept = arena::header().kept_segments;
  if (kept.load(std::memory_order_relaxed) < kKeptMost) {
    kept.fetch_add(1, std::memory_order_relaxed);
    segment_word(index).store(0, std::memory_order_release);
    hint_ = index;
    return;
  }
  discard_segment(index);
}

void discard_segment(uint32_t index) {
  // While it still has its owner: once it is free, somebody else may be writing into it.
  const bool punched = arena::punch(offset_of(index), arena::kSegmentBytes) == arena::Status::kOk;
  if (!punched)
    arena::header().kept_segments.fetch_add(1, std::memory_order_relaxed);  // what could not be given back is kept
  segment_word(index).store(punched ? kCold : 0, std::memory_order_release);
}

}  // namespace shoal::channel
