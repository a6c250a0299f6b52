// The arena as the survivor sees it: which bytes are compared after each step, what they are called, and what is in use in all.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "arena/arena.hpp"

namespace shoal::exhaust {

// A copy of the parts of the arena that a small test uses. Of a segment that is its beginning and its end, of a blob its head: payloads have no say in
// what happened.
class View {
 public:
  View() { gather(); }
  // What has changed since the last look: the offset of the first difference, or 0.
  uint64_t renew();

 private:
  struct Range {
    const char* at;  // nullptr: read from the file, since touching what was punched out would give it memory again
    uint64_t offset;
    uint32_t bytes, copied_at;
  };
  void add(uint64_t offset, uint64_t bytes);
  const char* now(const Range& range);
  void gather();
  uint64_t in_use() const;  // changes whenever other ranges are to be compared
  std::vector<Range> ranges_;
  std::vector<char> copy_, read_;
  uint64_t in_use_ = 0;
};

// "slot 1 +0x8", "object 3 word", "segment 2 +0x40", …
std::string name_of(uint64_t offset);

// What is in use. Two of them are equal when nothing has leaked in between.
struct Census {
  uint32_t slots = 0, objects = 0, holds = 0, segments = 0, blobs = 0, nodes = 0, permits = 0, names = 0;
  int64_t stray_bytes = 0;  // memory that the file has and no table accounts for
  bool operator==(const Census&) const = default;
};
Census take_census();
std::string to_string(const Census& census);

}  // namespace shoal::exhaust
