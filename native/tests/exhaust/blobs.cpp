// Blobs: allocating and freeing. The census of main.cpp says that none is left and that the file has no memory that the blobs' words do not speak of.
#include "channels.hpp"
#include "recovery/recovery.hpp"
#include "view.hpp"

namespace shoal::exhaust {

namespace {

// Whether what is free can be used: everything is written to.
void use_all(uint64_t bytes) {
  blob::Name name;
  CHECK(blob::allocate(bytes, 0, name) == arena::Status::kOk);
  std::memset(blob::payload(blob::head(name)), 7, bytes);
  CHECK(blob::free_owned(name, process::mine()));
}

class BlobScenario : public Scenario {
 public:
  explicit BlobScenario(uint64_t bytes) : bytes_(bytes) {}
  // Both classes have grown; nothing is kept.
  void prepare() override {
    use_all(100);
    use_all(bytes_);
    blob::trim(UINT64_MAX);
  }
  void check() override {
    blob::for_each([](blob::Name, blob::Word w) { CHECK(w.state() == blob::State::kLimbo); });
    CHECK(take_census().stray_bytes == 0);
    use_all(bytes_);
    use_all(100);
  }

 protected:
  blob::Name allocate(uint64_t bytes) const {
    blob::Name name;
    CHECK(blob::allocate(bytes, 0, name) == arena::Status::kOk);
    return name;
  }
  uint64_t bytes_;
};

// `before`: bytes of a blob of the same cell that was freed, whose pages are kept.
class Allocate final : public BlobScenario {
 public:
  Allocate(uint64_t bytes, uint64_t before) : BlobScenario(bytes), before_(before) {}
  void prepare() override {
    BlobScenario::prepare();
    if (before_ != 0) use_all(before_);
  }
  void operate() override { allocate(bytes_); }

 private:
  uint64_t before_;
};

// Nothing is left of the quota but what free blobs keep: they are trimmed.
class AllocateTrimming final : public BlobScenario {
 public:
  AllocateTrimming() : BlobScenario(300'000) {}
  uint64_t quota() const override { return 6ull << 20; }
  void prepare() override {
    BlobScenario::prepare();
    // Keeps 600 KB in two cells of one class, then fills the rest, the cell that operate() will use left out.
    const blob::Name a = allocate(200'000), b = allocate(200'000);
    CHECK(blob::free_owned(a, process::mine()) && blob::free_owned(b, process::mine()));
    const uint64_t room = arena::header().quota - arena::bytes_in_use();
    rest = allocate(room - 100'000);
  }
  void operate() override { allocate(bytes_); }
  void check() override {
    CHECK(take_census().stray_bytes == 0);
    CHECK(blob::free_owned(rest, process::mine()));
    BlobScenario::check();
  }

 private:
  blob::Name rest;
};

class Free final : public BlobScenario {
 public:
  explicit Free(uint64_t bytes) : BlobScenario(bytes) {}
  uint64_t quota() const override { return 6ull << 20; }  // an eighth of it is kept
  void begin() override { name = allocate(bytes_); }
  void operate() override { blob::free_owned(name, process::mine()); }

 private:
  blob::Name name;
};

class Trim final : public BlobScenario {
 public:
  Trim() : BlobScenario(kBlobPayload) {}
  void prepare() override {
    BlobScenario::prepare();
    use_all(bytes_);
  }
  void operate() override { blob::trim(arena::kMiB); }
};

// A blob that a forked child may look at goes to limbo first; who sweeps is killed in `sweeping`.
class Limbo final : public BlobScenario {
 public:
  Limbo(uint64_t bytes, bool sweeping) : BlobScenario(bytes), sweeping_(sweeping) {}
  uint64_t quota() const override { return 6ull << 20; }
  void begin() override {
    name = allocate(bytes_);
    process::cancel(process::reserve(0));  // as if it had forked
    if (sweeping_) retire();
  }
  void operate() override {
    if (!sweeping_) {
      retire();
      return;
    }
    recovery::enter();
    recovery::sweep_retired();
    recovery::leave();
  }
  void recover_victim() override { CHECK(recovery::recover_all() == 2); }

 private:
  void retire() const { recovery::let_go(name, process::mine()); }
  bool sweeping_;
  blob::Name name;
};

}  // namespace

std::vector<Entry> blob_operations() {
  constexpr uint64_t kSome = kBlobPayload, kMany = 1'500'000;
  return {
      {"blob.allocate", make<Allocate, kSome, 0ull>},
      {"blob.allocate.warm", make<Allocate, kSome, kSome>},
      {"blob.allocate.growing", make<Allocate, kSome, 100ull>},
      {"blob.allocate.large", make<Allocate, kMany, 0ull>},
      {"blob.allocate.trimming", make<AllocateTrimming>},
      {"blob.free", make<Free, kSome>},
      {"blob.free.punching", make<Free, kMany>},
      {"blob.trim", make<Trim>},
      {"blob.retire", make<Limbo, kSome, false>},
      {"blob.sweep", make<Limbo, kSome, true>},
      {"blob.sweep.punching", make<Limbo, kMany, true>},
  };
}

}  // namespace shoal::exhaust
