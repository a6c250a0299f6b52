// Floor 1: where everything lies in the arena's file. Pure arithmetic.
//
// The file is sparse: address space in it costs nothing, so each kind of cell has a region of its own, big enough for ever, and the owner words
// of all cells of a kind are one dense array. Memory is what has been fallocate'd.
#pragma once

#include <cstddef>
#include <cstdint>

namespace shoal::arena {

constexpr uint64_t kPage = 4096;
constexpr uint64_t kKiB = 1024, kMiB = 1024 * kKiB, kGiB = 1024 * kMiB;
constexpr uint64_t kExtent = 4 * kMiB;  // what is mapped at a time

constexpr uint32_t kSlots = 1024;
constexpr uint32_t kNodes = 16 * 1024;
constexpr uint32_t kObjects = 1u << 20;
constexpr uint32_t kSegments = 1u << 20;
constexpr uint32_t kPermits = 64;
constexpr uint32_t kNames = 1u << 16;

constexpr uint64_t kSlotBytes = 256;
constexpr uint64_t kNodeBytes = 64;
constexpr uint64_t kObjectBytes = 512;
constexpr uint64_t kHolderBytes = kSlots / 8;
constexpr uint64_t kSegmentBytes = 64 * kKiB;
constexpr uint64_t kNameBytes = 512;

// Blobs: size classes of 64 KiB << class. Each class has a region of 64 GiB.
constexpr uint32_t kBlobClasses = 21;
constexpr uint64_t kBlobSmallest = 64 * kKiB;
constexpr uint64_t kBlobRegion = 64 * kGiB;
constexpr uint64_t blob_bytes(uint32_t size_class) { return kBlobSmallest << size_class; }
constexpr uint32_t blob_cells(uint32_t size_class) {
  return static_cast<uint32_t>(kBlobRegion / blob_bytes(size_class));
}
constexpr uint32_t blob_first_word(uint32_t size_class) {
  uint32_t first = 0;
  for (uint32_t k = 0; k < size_class; ++k) first += blob_cells(k);
  return first;
}
constexpr uint32_t kBlobs = blob_first_word(kBlobClasses);

constexpr uint64_t align(uint64_t n, uint64_t to) { return (n + to - 1) / to * to; }

// The tables: mapped whole, and for good, when a process attaches.
constexpr uint64_t kHeaderAt = 0;
constexpr uint64_t kRecoveryAt = kPage;  // recovery's mutex
constexpr uint64_t kSlotsAt = 2 * kPage;
constexpr uint64_t kNodesAt = align(kSlotsAt + kSlots * kSlotBytes, kPage);
constexpr uint64_t kObjectWordsAt = align(kNodesAt + kNodes * kNodeBytes, kPage);
constexpr uint64_t kSegmentWordsAt = align(kObjectWordsAt + kObjects * 8ull, kPage);
constexpr uint64_t kBlobWordsAt = align(kSegmentWordsAt + kSegments * 8ull, kPage);
constexpr uint64_t kNameWordsAt = align(kBlobWordsAt + kBlobs * 8ull, kPage);
constexpr uint64_t kTablesEnd = align(kNameWordsAt + kNames * 8ull, kExtent);

// The cells: mapped by extents, as they are met.
constexpr uint64_t kHoldersAt = kTablesEnd;
constexpr uint64_t kObjectsAt = align(kHoldersAt + kObjects * kHolderBytes, kExtent);
constexpr uint64_t kNamesAt = align(kObjectsAt + kObjects * kObjectBytes, kExtent);
constexpr uint64_t kSegmentsAt = align(kNamesAt + kNames * kNameBytes, kExtent);
constexpr uint64_t kBlobsAt = align(kSegmentsAt + kSegments * kSegmentBytes, kExtent);
constexpr uint64_t kArenaBytes = kBlobsAt + kBlobClasses * kBlobRegion;

static_assert(kTablesEnd <= 64 * kMiB, "the tables are mapped whole, and RLIMIT_AS counts mappings");
static_assert(kKiB * 64 % kPage == 0 && kExtent % kSegmentBytes == 0, "a segment never straddles two extents");
static_assert(kExtent % kObjectBytes == 0 && kExtent % kHolderBytes == 0 && kExtent % kNameBytes == 0,
              "a cell never straddles two extents");

}  // namespace shoal::arena
