#include "channel/segment.hpp"

namespace shoal::channel {

namespace {
constexpr arena::TableShape kShape = {arena::kSegmentTable,
                                      arena::kSegments,
                                      8,
                                      {{arena::kSegmentWordsAt, 8}, {arena::kSegmentsAt, arena::kSegmentBytes}, {0, 0}}};
thread_local uint32_t hint_ = 0;
}  // namespace

arena::Status claim_segment(uint64_t owner, uint32_t& index) {
  arena::Status status = arena::claim_cell(
      kShape, hint_, [](uint32_t i) { return segment_word(i).load(std::memory_order_relaxed) == 0; },
      [&](uint32_t i) {
        uint64_t nobody = 0;
        return segment_word(i).compare_exchange_strong(nobody, owner);
      },
      index);
  if (status != arena::Status::kOk) return status;
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
    if (owner == link_of(object) || owner == accounts_of(object)) free_segment(i);
  }
}

void free_segment(uint32_t index) {
  segment_word(index).store(0, std::memory_order_release);
  hint_ = index;
}

}  // namespace shoal::channel
