#include "view.hpp"

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <set>

#include "blob/blob.hpp"
#include "channel/segment.hpp"
#include "names/names.hpp"
#include "object/object.hpp"
#include "process/nodes.hpp"

namespace shoal::exhaust {

namespace {

constexpr uint32_t kMostSlots = 8, kMostNodes = 16, kMostObjects = 16, kMostSegments = 8, kMostBlobs = 4,
                   kMostNames = 8;
constexpr uint32_t kSegmentBegin = 1024, kSegmentEnd = 1024;

uint64_t blob_at(uint32_t size_class, uint32_t index) {
  return arena::kBlobsAt + size_class * arena::kBlobRegion + index * arena::blob_bytes(size_class);
}
blob::Word blob_word(uint32_t size_class, uint32_t index) { return blob::load(blob::Name::make(size_class, index, 0)); }
uint32_t few(uint32_t table, uint32_t most) { return std::min(arena::grown(table), most); }

const char* address_of(uint64_t offset) {
  return offset < arena::kTablesEnd ? arena::table(offset) : arena::cell(offset, 1);
}

}  // namespace

void View::add(uint64_t offset, uint64_t bytes) {
  if (bytes == 0) return;
  const char* at = offset < arena::kSegmentsAt ? address_of(offset) : nullptr;
  ranges_.push_back({at, offset, static_cast<uint32_t>(bytes), static_cast<uint32_t>(copy_.size())});
  copy_.resize(copy_.size() + bytes);
  std::memcpy(copy_.data() + ranges_.back().copied_at, now(ranges_.back()), bytes);
}

const char* View::now(const Range& r) {
  if (r.at != nullptr) return r.at;
  read_.resize(std::max<size_t>(read_.size(), r.bytes));
  const ssize_t n = pread(arena::descriptor(), read_.data(), r.bytes, static_cast<off_t>(r.offset));
  return n == static_cast<ssize_t>(r.bytes) ? read_.data() : copy_.data() + r.copied_at;
}

uint64_t View::in_use() const {
  uint64_t sum = 0;
  for (uint32_t t = 0; t < arena::kTableCount; ++t) sum = sum * 31 + arena::grown(t);
  for (uint32_t i = 0; i < few(arena::kSegmentTable, kMostSegments); ++i)
    sum = sum * 31 + (channel::is_free(channel::segment_word(i).load()) ? 0 : 1);
  for (uint32_t i = 0; i < few(arena::kBlobTable, kMostBlobs); ++i)
    sum = sum * 31 + (blob_word(0, i).backed() != 0 ? 1 : 0);
  return sum;
}

void View::gather() {
  ranges_.clear();
  copy_.clear();
  in_use_ = in_use();
  add(arena::kHeaderAt, sizeof(arena::Header));
  add(arena::kRecoveryAt, sizeof(pthread_mutex_t));
  add(arena::kSlotsAt, kMostSlots * arena::kSlotBytes);
  add(arena::kNodesAt, few(arena::kNodeTable, kMostNodes) * arena::kNodeBytes);
  const uint32_t objects = few(arena::kObjectTable, kMostObjects);
  add(arena::kObjectWordsAt, objects * 8);
  add(arena::kHoldersAt, objects * arena::kHolderBytes);
  add(arena::kObjectsAt, objects * arena::kObjectBytes);
  const uint32_t segments = few(arena::kSegmentTable, kMostSegments);
  add(arena::kSegmentWordsAt, segments * 8);
  for (uint32_t i = 0; i < segments; ++i) {
    if (channel::is_free(channel::segment_word(i).load())) continue;
    const uint64_t at = arena::kSegmentsAt + i * arena::kSegmentBytes;
    add(at, kSegmentBegin);
    add(at + arena::kSegmentBytes - kSegmentEnd, kSegmentEnd);
  }
  const uint32_t names = few(arena::kNameTable, kMostNames);
  add(arena::kNameWordsAt, names * 8);
  add(arena::kNamesAt, names * arena::kNameBytes);
  for (uint32_t k = 0; k < arena::kBlobClasses; ++k)
    add(arena::kBlobWordsAt + arena::blob_first_word(k) * 8ull, few(arena::kBlobTable + k, kMostBlobs) * 8);
  for (uint32_t i = 0; i < few(arena::kBlobTable, kMostBlobs); ++i)
    if (blob_word(0, i).backed() != 0) add(blob_at(0, i), sizeof(blob::Head));
}

uint64_t View::renew() {
  uint64_t changed = 0;
  for (const Range& r : ranges_) {
    char* copy = copy_.data() + r.copied_at;
    const char* here = now(r);
    if (std::memcmp(copy, here, r.bytes) == 0) continue;
    if (changed == 0) {
      uint32_t i = 0;
      while (i < r.bytes && copy[i] == here[i]) ++i;
      changed = r.offset + std::min(i, r.bytes - 1) + (r.offset + i == 0 ? 1 : 0);  // never 0
    }
    std::memcpy(copy, here, r.bytes);
  }
  if (changed != 0 && in_use() != in_use_) gather();
  return changed;
}

std::string name_of(uint64_t offset) {
  char text[96];
  const auto cell = [&](const char* what, uint64_t base, uint64_t bytes) {
    std::snprintf(text, sizeof text, "%s %llu +0x%llx", what, static_cast<unsigned long long>((offset - base) / bytes),
                  static_cast<unsigned long long>((offset - base) % bytes));
    return std::string(text);
  };
  if (offset < arena::kRecoveryAt) return cell("header", 0, arena::kPage).replace(0, 8, "header");
  if (offset < arena::kSlotsAt) return "recovery's mutex";
  if (offset < arena::kNodesAt) return cell("slot", arena::kSlotsAt, arena::kSlotBytes);
  if (offset < arena::kObjectWordsAt) return cell("node", arena::kNodesAt, arena::kNodeBytes);
  if (offset < arena::kSegmentWordsAt) return cell("object word", arena::kObjectWordsAt, 8);
  if (offset < arena::kBlobWordsAt) return cell("segment word", arena::kSegmentWordsAt, 8);
  if (offset < arena::kNameWordsAt) return cell("blob word", arena::kBlobWordsAt, 8);
  if (offset < arena::kTablesEnd) return cell("name word", arena::kNameWordsAt, 8);
  if (offset < arena::kObjectsAt) return cell("holders of object", arena::kHoldersAt, arena::kHolderBytes);
  if (offset < arena::kNamesAt) return cell("object", arena::kObjectsAt, arena::kObjectBytes);
  if (offset < arena::kSegmentsAt) return cell("name", arena::kNamesAt, arena::kNameBytes);
  if (offset < arena::kBlobsAt) return cell("segment", arena::kSegmentsAt, arena::kSegmentBytes);
  return cell("blob", arena::kBlobsAt, arena::kBlobSmallest);
}

Census take_census() {
  Census c;
  for (uint32_t i = 0; i < arena::kSlots; ++i)
    c.slots += process::state_of(process::slot(i).word.load()) != process::State::kFree ? 1 : 0;
  for (uint32_t i = 0; i < arena::grown(arena::kObjectTable); ++i) {
    c.objects += object::load(i).state() != object::State::kFree ? 1 : 0;
    for (uint32_t k = 0; k < arena::kSlots / 64; ++k)
      c.holds += static_cast<uint32_t>(__builtin_popcountll(object::holders(i)[k].load()));
  }
  blob::for_each([&](blob::Name, blob::Word) { ++c.blobs; });
  for (uint32_t i = 0; i < arena::grown(arena::kNodeTable); ++i) c.nodes += process::node(i).owner.load() != 0 ? 1 : 0;
  for (uint32_t i = 0; i < arena::grown(arena::kNameTable); ++i)
    c.names += names::Word{names::word(i).load()}.state() != names::State::kFree ? 1 : 0;
  for (const std::atomic<uint32_t>& permit : arena::header().permits) c.permits += permit.load() != 0 ? 1 : 0;

  // Every page that a table accounts for; neighbours may share one.
  std::set<uint64_t> pages;
  uint64_t bytes = 0;
  const auto has = [&](uint64_t from, uint64_t length) {
    for (uint64_t p = from / arena::kPage; length != 0 && p < (from + length + arena::kPage - 1) / arena::kPage; ++p)
      pages.insert(p);
  };
  has(0, arena::kNodesAt);
  has(arena::kNodesAt, arena::grown(arena::kNodeTable) * arena::kNodeBytes);
  has(arena::kObjectWordsAt, arena::grown(arena::kObjectTable) * 8ull);
  bytes += arena::grown(arena::kObjectTable) * (arena::kHolderBytes + arena::kObjectBytes);
  has(arena::kSegmentWordsAt, arena::grown(arena::kSegmentTable) * 8ull);
  for (uint32_t i = 0; i < arena::grown(arena::kSegmentTable); ++i) {
    const uint64_t word = channel::segment_word(i).load();
    c.segments += channel::is_free(word) ? 0 : 1;
    bytes += word != channel::kCold ? arena::kSegmentBytes : 0;
  }
  has(arena::kNameWordsAt, arena::grown(arena::kNameTable) * 8ull);
  bytes += arena::grown(arena::kNameTable) * arena::kNameBytes;
  for (uint32_t k = 0; k < arena::kBlobClasses; ++k) {
    const uint32_t end = arena::grown(arena::kBlobTable + k);
    has(arena::kBlobWordsAt + arena::blob_first_word(k) * 8ull, end * 8ull);
    for (uint32_t i = 0; i < end; ++i) bytes += blob_word(k, i).backed() * arena::kPage;
  }
  c.stray_bytes =
      static_cast<int64_t>(arena::bytes_in_use()) - static_cast<int64_t>(bytes + pages.size() * arena::kPage);
  return c;
}

std::string to_string(const Census& c) {
  char text[256];
  std::snprintf(
      text, sizeof text,
      "slots %u, objects %u, holds %u, segments %u, blobs %u, nodes %u, permits %u, names %u, stray bytes %lld",
      c.slots, c.objects, c.holds, c.segments, c.blobs, c.nodes, c.permits, c.names,
      static_cast<long long>(c.stray_bytes));
  return text;
}

}  // namespace shoal::exhaust
