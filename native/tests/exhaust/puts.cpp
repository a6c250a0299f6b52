// Putting into a channel.
#include "channel/segment.hpp"
#include "channels.hpp"

namespace shoal::exhaust {

namespace {

using channel::Result;

struct How {
  uint32_t before = 0;  // messages in it already
  Letter letter = {};   // what they are like, and the one that the victim puts
  uint64_t maxsize = 0;
  uint64_t byte_limit = 0;
  bool sleeper = false;  // a peer sleeps in get()
  bool cold = false;     // free segments have no memory
};

class Put : public Scenario {
 public:
  explicit Put(How how) : how_(how) {}
  void prepare() override {
    if (how_.cold) make_cold();
    channel = make_channel({.maxsize = how_.maxsize, .byte_limit = how_.byte_limit});
    for (uint64_t n = 1; n <= how_.before; ++n) CHECK(put_number(channel, n, how_.letter, soon()) == Result::kDone);
    if (how_.sleeper) peer = start_and_wait_until_asleep([&] { return static_cast<int>(get_number(channel, {})); });
  }
  void operate() override { put_number(channel, how_.before + 1, how_.letter, {}); }
  void at_death() override { committed = puts(channel) == how_.before + 1; }
  void check() override {
    CHECK(puts(channel) == how_.before + (committed ? 1 : 0));
    if (how_.sleeper) {
      if (!committed) CHECK(put_number(channel, 1, how_.letter, soon()) == Result::kDone);
      CHECK(result_of(peer) == 1);
      drain(channel, 1, 0, how_.letter);
    } else {
      drain(channel, 1, how_.before + (committed ? 1 : 0), how_.letter);
    }
  }
  void finish() override { recovery::let_go(channel); }

 protected:
  static void make_cold() {
    arena::header().kept_segments = 1 << 20;
    uint32_t segments[8];
    for (uint32_t& s : segments) CHECK(channel::claim_segment(channel::link_of(0), s) == arena::Status::kOk);
    for (const uint32_t s : segments) channel::free_segment(s);
  }
  How how_;
  uint32_t channel = 0;
  bool committed = false;
  Child peer;
};

// Nobody recovers before somebody else puts: that one finds the section's holder dead, and repairs.
class PutUnrecovered final : public Put {
 public:
  using Put::Put;
  void recover_victim() override {}
  void check() override {
    const uint64_t last = how_.before + (committed ? 1 : 0);
    CHECK(put_number(channel, last + 1, how_.letter, soon()) == Result::kDone);
    CHECK(get_number(channel, soon()) == 1);
    recover(victim);
    drain(channel, 2, last + 1, how_.letter);
  }
};

// The channel is full: the victim sleeps for room, a peer behind it; then the survivor takes one message out.
class PutFull final : public Put {
 public:
  PutFull() : Put({.before = 1, .maxsize = 1}) {}
  void victim_sleeps() override {
    peer = start_and_wait_until_asleep([&] { return put_number(channel, 7, {}, {}) == Result::kDone ? 10 : 11; });
    CHECK(get_number(channel, soon()) == 1);
  }
  void at_death() override {}
  void check() override {
    if (peer.pid == 0) {
      drain_one(1);
      return;
    }
    // One of the two may be in; the other's turn comes when that one is out.
    const uint64_t first = get_number(channel, soon());
    CHECK(first == 2 || first == 7);
    CHECK(result_of(peer) == 10);
    if (first == 2) drain_one(7);
    CHECK(get_number(channel, at_once()) == 0);
  }

 private:
  void drain_one(uint64_t number) {
    CHECK(get_number(channel, soon()) == number);
    CHECK(put_number(channel, 8, {}, soon()) == Result::kDone);
    CHECK(put_number(channel, 9, {}, at_once()) == Result::kFull);
    CHECK(get_number(channel, soon()) == 8);
  }
};

// Seven messages of 8 KiB fill a segment; a short one goes behind them, then the next segment begins.
constexpr Letter kLong = {.words = 1020};

class PutAcross final : public Put {
 public:
  PutAcross() : Put({.before = 7, .letter = kLong}) {}
  void prepare() override {
    Put::prepare();
    // Up to the segment's last kilobyte, where every change is seen.
    for (; channel::Position{channel::at(channel)->ring.tail.load()}.offset() < arena::kSegmentBytes - 900;)
      CHECK(put_number(channel, ++how_.before, {.words = 80}, soon()) == Result::kDone);
  }
  void operate() override { put_number(channel, how_.before + 1, {.words = 120}, {}); }
};

}  // namespace

std::vector<Entry> put_operations() {
  return {
      {"channel.put", [] { return std::unique_ptr<Scenario>(new Put({.before = 2})); }},
      {"channel.put.first", [] { return std::unique_ptr<Scenario>(new Put({})); }},
      {"channel.put.first.cold", [] { return std::unique_ptr<Scenario>(new Put({.cold = true})); }},
      {"channel.put.sleeper", [] { return std::unique_ptr<Scenario>(new Put({.sleeper = true})); }},
      {"channel.put.blob", [] { return std::unique_ptr<Scenario>(new Put({.before = 1, .letter = {.blob = true}})); }},
      {"channel.put.blob.first", [] { return std::unique_ptr<Scenario>(new Put({.letter = {.blob = true}})); }},
      {"channel.put.blob.sleeper",
       [] { return std::unique_ptr<Scenario>(new Put({.letter = {.blob = true}, .sleeper = true})); }},
      {"channel.put.across", make<PutAcross>},
      {"channel.put.unrecovered", [] { return std::unique_ptr<Scenario>(new PutUnrecovered(How{.before = 1})); }},
      {"channel.put.first.unrecovered", [] { return std::unique_ptr<Scenario>(new PutUnrecovered(How{})); }},
      {"channel.put.blob.unrecovered",
       [] { return std::unique_ptr<Scenario>(new PutUnrecovered(How{.letter = {.blob = true}})); }},
      {"channel.put.bounded", [] { return std::unique_ptr<Scenario>(new Put({.before = 1, .maxsize = 4})); }},
      {"channel.put.bytes", [] { return std::unique_ptr<Scenario>(new Put({.before = 1, .byte_limit = 4096})); }},
      {"channel.put.full", make<PutFull>},
  };
}

}  // namespace shoal::exhaust
