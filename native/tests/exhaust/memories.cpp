// Memory as an object: made and let go of. The census of main.cpp says that neither an object nor a blob is left, and that the file has no page too many.
#include <algorithm>
#include <cstring>

#include "held.hpp"
#include "memory/memory.hpp"
#include "recovery/recovery.hpp"
#include "view.hpp"

namespace shoal::exhaust {

namespace {

uint32_t make_memory(uint64_t bytes) {
  uint32_t index = 0, generation = 0;
  CHECK(memory::create(bytes, index, generation) == arena::Status::kOk);
  CHECK(memory::size(index) == bytes);
  return index;
}

// All zeros at birth, whatever lay there before; leaves it full of something.
void use(uint64_t bytes) {
  const uint32_t index = make_memory(bytes);
  char* at = memory::address(index);
  CHECK(std::all_of(at, at + bytes, [](char c) { return c == 0; }));
  std::memset(at, 7, bytes);
  recovery::let_go(index);
}

class MemoryScenario : public Scenario {
 public:
  explicit MemoryScenario(uint64_t bytes) : bytes_(bytes) {}
  uint64_t quota() const override { return 6ull << 20; }  // an eighth of it is kept
  void prepare() override { use(bytes_); }
  void check() override {
    use(bytes_);
    use(100);
    use(bytes_);
  }

 protected:
  uint64_t bytes_;
};

// `before`: bytes of the memory that was in the same cell, whose pages are kept.
class Create final : public MemoryScenario {
 public:
  Create(uint64_t bytes, uint64_t before) : MemoryScenario(bytes), before_(before) {}
  void prepare() override {
    MemoryScenario::prepare();
    blob::trim(UINT64_MAX);
    if (before_ != 0) use(before_);
  }
  void operate() override { make_memory(bytes_); }

 private:
  uint64_t before_;
};

// What lay in the object's cell before looks like the name of memory that somebody has.
class CreateOverGarbage final : public MemoryScenario {
 public:
  CreateOverGarbage() : MemoryScenario(3'000) {}
  void prepare() override {
    MemoryScenario::prepare();
    const uint32_t other = make_lock();
    mine = make_memory(bytes_);
    std::memset(memory::address(mine), 9, bytes_);
    const uint64_t name = object::body<memory::Memory>(mine)->blob;
    object::body<memory::Memory>(other)->blob = name;
    recovery::let_go(other);
  }
  void operate() override { make_memory(100); }
  void check() override {
    const char* at = memory::address(mine);
    CHECK(blob::load({object::body<memory::Memory>(mine)->blob}).state() == blob::State::kKept);
    CHECK(std::all_of(at, at + bytes_, [](char c) { return c == 9; }));
    MemoryScenario::check();
  }
  void finish() override { recovery::let_go(mine); }

 private:
  uint32_t mine = 0;
};

class Release final : public MemoryScenario {
 public:
  // `known`: others may have heard of it, so it is retired first.
  Release(uint64_t bytes, bool known) : MemoryScenario(bytes), known_(known) {}
  void begin() override {
    memory = make_memory(bytes_);
    if (known_) process::cancel(process::reserve(0));
  }
  void operate() override { recovery::let_go(memory); }
  void recover_victim() override { CHECK(recovery::recover_all() == (known_ ? 2 : 1)); }

 private:
  bool known_;
  uint32_t memory = 0;
};

// The survivor holds it, too, and what is in it stays.
class ReleaseShared final : public MemoryScenario {
 public:
  using MemoryScenario::MemoryScenario;
  void prepare() override {
    memory = make_memory(bytes_);
    std::memset(memory::address(memory), 5, bytes_);
  }
  void begin() override { CHECK(object::adopt(memory, object::load(memory).generation(), object::Kind::kMemory)); }
  void operate() override { recovery::let_go(memory); }
  void check() override {
    CHECK(object::load(memory).state() == object::State::kLive);
    const char* at = memory::address(memory);
    CHECK(std::all_of(at, at + bytes_, [](char c) { return c == 5; }));
    MemoryScenario::check();
  }
  void finish() override { recovery::let_go(memory); }

 private:
  uint32_t memory = 0;
};

// Who sweeps retired memory is killed.
class Sweep final : public MemoryScenario {
 public:
  using MemoryScenario::MemoryScenario;
  void prepare() override {
    const uint32_t small = make_memory(100), large = make_memory(bytes_);
    process::cancel(process::reserve(0));
    for (const uint32_t index : {small, large}) recovery::let_go(index);
    CHECK(recovery::recover_all() == 1);
  }
  void operate() override { recovery::sweep_now(); }
};

}  // namespace

std::vector<Entry> memory_operations() {
  constexpr uint64_t kSmall = 100, kSome = 10'000, kMany = 1'500'000;
  return {
      {"memory.create.small", make<Create, kSmall, 0ull>},
      {"memory.create", make<Create, kSome, 0ull>},
      {"memory.create.warm", make<Create, kSome, kSome>},
      {"memory.create.growing", make<Create, kSome, 1'000ull>},
      {"memory.create.garbage", make<CreateOverGarbage>},
      {"memory.release.small", make<Release, kSmall, false>},
      {"memory.release", make<Release, kSome, false>},
      {"memory.release.punching", make<Release, kMany, false>},
      {"memory.release.known", make<Release, kSome, true>},
      {"memory.release.shared", make<ReleaseShared, kSome>},
      {"memory.sweep", make<Sweep, kSome>},
  };
}

}  // namespace shoal::exhaust
