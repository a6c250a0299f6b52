#include "memory/memory.hpp"

#include <algorithm>

namespace shoal::memory {

namespace {

Memory* at(uint32_t index) { return object::body<Memory>(index); }

}  // namespace

arena::Status create(uint64_t bytes, uint32_t& index, uint32_t& generation) {
  blob::Name name;
  if (bytes > kMostHere)
    if (const arena::Status s = blob::allocate(bytes, 0, name, true); s != arena::Status::kOk) return s;
  if (const arena::Status s = object::claim(object::Kind::kMemory, index); s != arena::Status::kOk) {
    const arena::Failure failure = arena::last_failure();
    if (name.there()) blob::free_owned(name, process::mine());
    arena::last_failure() = failure;
    return s;
  }
  Memory& m = *at(index);  // mapped by claim, and empty
  m.bytes = bytes;
  if (name.there()) {
    m.blob.store(name.raw);
    blob::keep(name);
  }
  generation = object::publish(index);
  return arena::Status::kOk;
}

char* address(uint32_t index) {
  Memory* m = at(index);
  if (m == nullptr) return nullptr;
  const blob::Name name{m->blob.load(std::memory_order_relaxed)};
  if (!name.there()) return m->here;
  blob::Head* h = blob::head(name);
  return h != nullptr ? blob::payload(h) : nullptr;
}

uint64_t size(uint32_t index) { return at(index)->bytes; }

uint32_t weight(uint32_t index) {
  constexpr uint64_t kBytes = 64 * arena::kKiB;
  const Memory* m = at(index);
  return m != nullptr ? static_cast<uint32_t>(std::min<uint64_t>(m->bytes / kBytes, UINT16_MAX)) : 0;
}

void destroy(uint32_t index) {
  Memory* m = at(index);
  if (m == nullptr) return;
  if (const blob::Name name{m->blob.load()}; name.there()) blob::free_kept(name);
}

}  // namespace shoal::memory
