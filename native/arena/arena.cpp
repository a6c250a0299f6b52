#include "arena/arena.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>

#include <algorithm>
#include <new>

namespace shoal::arena {

namespace {

constexpr uint64_t kMagic = 0x31304C414F485353;  // "SSHOAL01"

int fd_ = -1;
thread_local uint64_t unreachable_ = 0;
dev_t device_;
ino_t inode_;
char* tables_ = nullptr;

// One pointer for each extent of the small cells, one for each cell of the blobs of an extent and more.
constexpr uint64_t kLargeClass = 6;  // blob_bytes(6) == kExtent
static_assert(blob_bytes(kLargeClass) == kExtent);
constexpr uint64_t kSmallEnd = kBlobsAt + kLargeClass * kBlobRegion;
constexpr uint64_t kSmallMaps = (kSmallEnd - kHoldersAt) / kExtent;
constexpr uint64_t kLargeMaps = kBlobs - blob_first_word(kLargeClass);
std::atomic<char*> maps_[kSmallMaps + kLargeMaps];

struct Place {
  uint64_t map, start, bytes;  // which pointer, what it maps
};

Place place_of(uint64_t offset) {
  if (offset < kSmallEnd) {
    const uint64_t k = (offset - kHoldersAt) / kExtent;
    return {k, kHoldersAt + k * kExtent, kExtent};
  }
  const auto size_class = static_cast<uint32_t>((offset - kBlobsAt) / kBlobRegion);
  const uint64_t region = kBlobsAt + size_class * kBlobRegion;
  const uint64_t index = (offset - region) / blob_bytes(size_class);
  return {kSmallMaps + blob_first_word(size_class) - blob_first_word(kLargeClass) + index,
          region + index * blob_bytes(size_class), blob_bytes(size_class)};
}

// Daemonising code closes every descriptor; the number may by now be somebody's file, which must not be punched or mapped.
bool descriptor_is_ours() {
  struct stat s;
  return fstat(fd_, &s) == 0 && s.st_dev == device_ && s.st_ino == inode_;
}

Status fail(Status status, uint64_t wanted) {
  Failure& f = last_failure();
  f.error = errno;
  f.wanted = wanted;
  f.used = status == Status::kLostDescriptor ? 0 : bytes_in_use();
  f.quota = tables_ != nullptr ? header().quota : 0;
  return status;
}

Status map_tables() {
  void* p = mmap(nullptr, kTablesEnd, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd_, 0);
  if (p == MAP_FAILED) return fail(Status::kSystem, kTablesEnd);
  tables_ = static_cast<char*>(p);
  return Status::kOk;
}

Status adopt_descriptor(int fd) {
  struct stat s;
  if (fstat(fd, &s) != 0) return Status::kSystem;
  if (s.st_size != static_cast<off_t>(kArenaBytes)) {  // somebody's, or not yet an arena: reading it would be a SIGBUS
    errno = EINVAL;
    return Status::kSystem;
  }
  fd_ = fd;
  device_ = s.st_dev;
  inode_ = s.st_ino;
  return Status::kOk;
}

}  // namespace

Failure& last_failure() {
  static thread_local Failure failure;
  return failure;
}

uint64_t unreachable() { return unreachable_; }
bool attached() { return tables_ != nullptr; }
int descriptor() { return fd_; }
Header& header() { return *reinterpret_cast<Header*>(tables_); }
char* table(uint64_t offset) { return tables_ + offset; }

Status create(uint64_t quota_bytes) {
  const int fd = os::memfd("shoal");
  if (fd < 0) return fail(Status::kSystem, 0);
  if (ftruncate(fd, static_cast<off_t>(kArenaBytes)) != 0 || fallocate(fd, 0, 0, static_cast<off_t>(kNodesAt)) != 0) {
    fail(Status::kSystem, kNodesAt);
    close(fd);
    return Status::kSystem;
  }
  if (Status s = adopt_descriptor(fd); s != Status::kOk) return s;
  if (Status s = map_tables(); s != Status::kOk) {
    close(fd);
    fd_ = -1;
    return s;
  }
  Header& h = *new (tables_) Header{};
  h.quota = quota_bytes != 0 ? quota_bytes : os::memory_limit() / 4 * 3;
  h.cores = os::usable_cores();
  h.fork_sequence = 1;
  if (getrandom(&h.id, sizeof h.id, 0) != sizeof h.id) h.id = os::now() * 2654435761u + static_cast<uint64_t>(getpid());
  h.id >>= 1;  // positive in a signed 64-bit integer
  h.magic = kMagic;
  return Status::kOk;
}

Status attach(int fd) {
  if (Status s = adopt_descriptor(fd); s != Status::kOk) return fail(s, 0);
  if (Status s = map_tables(); s != Status::kOk) return s;
  if (header().magic != kMagic) {
    munmap(tables_, kTablesEnd);
    tables_ = nullptr;
    errno = EINVAL;
    return fail(Status::kSystem, 0);
  }
  return Status::kOk;
}

uint64_t bytes_in_use() {
  struct stat s;
  return fd_ >= 0 && fstat(fd_, &s) == 0 ? static_cast<uint64_t>(s.st_blocks) * 512 : 0;
}

Status commit(uint64_t offset, uint64_t bytes) {
  if (!descriptor_is_ours()) {
    errno = EBADF;
    return fail(Status::kLostDescriptor, bytes);
  }
  const uint64_t from = offset / kPage * kPage, length = align(offset + bytes, kPage) - from;
  // In a memory cgroup fallocate may get the process killed instead of failing: hence a quota of our own.
  if (bytes_in_use() + length > header().quota) {
    errno = ENOMEM;
    return fail(Status::kNoMemory, length);
  }
  for (;;) {
    if (fallocate(fd_, 0, static_cast<off_t>(from), static_cast<off_t>(length)) == 0) return Status::kOk;
    if (errno != EINTR) return fail(errno == ENOSPC || errno == ENOMEM ? Status::kNoMemory : Status::kSystem, length);
  }
}

Status punch(uint64_t offset, uint64_t bytes) {
  if (!descriptor_is_ours()) return Status::kLostDescriptor;
  const uint64_t from = align(offset, kPage), to = (offset + bytes) / kPage * kPage;
  if (to <= from) return Status::kOk;
  for (;;) {
    if (fallocate(fd_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(from),
                  static_cast<off_t>(to - from)) == 0)
      return Status::kOk;
    if (errno != EINTR) return Status::kSystem;
  }
}

char* cell(uint64_t offset, uint64_t) {
  const Place p = place_of(offset);
  char* base = maps_[p.map].load(std::memory_order_acquire);
  if (base == nullptr) {
    if (!descriptor_is_ours()) {
      errno = EBADF;
      ++unreachable_;
      fail(Status::kLostDescriptor, p.bytes);
      return nullptr;
    }
    void* fresh =
        mmap(nullptr, p.bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd_, static_cast<off_t>(p.start));
    if (fresh == MAP_FAILED) {
      ++unreachable_;
      fail(Status::kSystem, p.bytes);
      return nullptr;
    }
    if (maps_[p.map].compare_exchange_strong(base, static_cast<char*>(fresh))) {
      base = static_cast<char*>(fresh);
    } else {
      munmap(fresh, p.bytes);  // another thread was faster
    }
  }
  return base + (offset - p.start);
}

void unmap(uint64_t offset, uint64_t) {
  const Place p = place_of(offset);
  if (p.map < kSmallMaps) return;
  if (char* base = maps_[p.map].exchange(nullptr)) munmap(base, p.bytes);
}

}  // namespace shoal::arena
