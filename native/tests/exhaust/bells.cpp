// The bell of a pipe: while a message waits in an armed channel its descriptor is readable, and once somebody has found the channel empty it is not.
#include <poll.h>
#include <sys/eventfd.h>

#include "channel/doorbell.hpp"
#include "channels.hpp"

namespace shoal::exhaust {

namespace {

using channel::Result;

constexpr int kNoBell = -1;  // the section rings and silences none

class WithBell : public Scenario {
 public:
  explicit WithBell(uint32_t before) : before_(before) {}
  void prepare() override {
    bell = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    CHECK(bell >= 0);
    channel = make_channel({});
  }
  void finish() override {
    recovery::let_go(channel);
    close(bell);
  }

 protected:
  bool put_now(uint64_t number, int rung) const {
    channel::Message m;
    m.data = &number;
    m.bytes = sizeof number;
    m.tag = number;
    sync::Wait wait = soon();
    return channel::put_now(channel, m, wait, rung) == Result::kDone;
  }
  uint64_t get_now(int silenced) const {
    char buffer[channel::kInline];
    channel::Taken out;
    out.buffer = buffer;
    sync::Wait wait = soon();
    return channel::get_now(channel, out, wait, silenced) == Result::kDone ? out.tag : 0;
  }
  bool rings() const {
    pollfd p{bell, POLLIN, 0};
    return poll(&p, 1, 0) == 1;
  }
  uint32_t before_, channel = 0;
  int bell = -1;
};

class BellScenario : public WithBell {
 public:
  BellScenario(uint32_t armed, uint32_t before) : WithBell(before), armed_(armed) {}
  void prepare() override {
    WithBell::prepare();
    sync::Wait wait = soon();
    CHECK(channel::arm(channel, armed_, bell, wait));
    for (uint64_t n = 1; n <= before_; ++n) CHECK(put(n));
  }
  void check() override {
    const uint32_t here = channel::length(channel::at(channel)->ring);
    CHECK(here == 0 || rings());
    for (uint32_t n = 0; n < here; ++n) CHECK(get() != 0);
    CHECK(get() == 0 && !rings());
    sync::Wait wait = soon();
    CHECK(channel::arm(channel, armed_, bell, wait));
    CHECK(put(8) && rings() && get() == 8 && !rings());
  }

 protected:
  bool put(uint64_t number) const { return put_now(number, bell); }
  uint64_t get() const { return get_now(bell); }
  uint32_t armed_;
};

class PutRinging final : public BellScenario {
 public:
  using BellScenario::BellScenario;
  void operate() override { put(before_ + 1); }
};

class GetSilencing final : public BellScenario {
 public:
  using BellScenario::BellScenario;
  void operate() override { get(); }
};

class Arm final : public BellScenario {
 public:
  Arm() : BellScenario(channel::kArmedAlways, 0) {}
  void prepare() override {
    BellScenario::prepare();
    channel::at(channel)->armed = 0;
    CHECK(put(1) && !rings());
  }
  void operate() override {
    sync::Wait wait = soon();
    channel::arm(channel, armed_, bell, wait);
  }
  void check() override {
    sync::Wait wait = soon();
    channel::arm(channel, armed_, bell, wait);
    BellScenario::check();
  }
};

// The bell of a channel with one process at each end. A producer that is killed between its commit and the bell is told by its socket, which is not part of
// this: so there may be a message and no bell, but never a word that keeps the next bell from ringing.
class LateBellScenario : public WithBell {
 public:
  using WithBell::WithBell;
  void prepare() override {
    WithBell::prepare();
    for (uint64_t n = 1; n <= before_; ++n) CHECK(put(n));
    CHECK(channel::listen(body()) == (before_ == 0));
  }
  void check() override {
    const uint32_t here = channel::length(body().ring);
    CHECK(here == before_ || here == before_ + 1);
    for (uint64_t n = 1; n <= here; ++n) CHECK(get() == n);
    CHECK(get() == 0);
    silence();
    CHECK(channel::listen(body()) && put(8) && rings() && get() == 8);
    silence();
    CHECK(put(9) && !rings() && !channel::listen(body()) && get() == 9);
  }

 protected:
  channel::Channel& body() const { return *channel::at(channel); }
  bool put(uint64_t number) const {
    if (!put_now(number, kNoBell)) return false;
    channel::call(body(), bell);
    return true;
  }
  uint64_t get() const { return get_now(kNoBell); }
  void silence() const {
    uint64_t rung = 0;
    if (rings()) CHECK(read(bell, &rung, sizeof rung) == sizeof rung);
  }
};

class PutThenRing final : public LateBellScenario {
 public:
  using LateBellScenario::LateBellScenario;
  void operate() override { put(before_ + 1); }
};

class Listen final : public LateBellScenario {
 public:
  using LateBellScenario::LateBellScenario;
  void prepare() override {
    LateBellScenario::prepare();
    body().listening = 0;
  }
  void operate() override { channel::listen(body()); }
};

}  // namespace

std::vector<Entry> bell_operations() {
  return {
      {"bell.put.once", make<PutRinging, channel::kArmedOnce, 0u>},
      {"bell.put.always", make<PutRinging, channel::kArmedAlways, 0u>},
      {"bell.get", make<GetSilencing, channel::kArmedAlways, 2u>},
      {"bell.get.last", make<GetSilencing, channel::kArmedAlways, 1u>},
      {"bell.arm", make<Arm>},
      {"bell.late.put", make<PutThenRing, 0u>},
      {"bell.late.put.unheard", make<PutThenRing, 1u>},
      {"bell.late.listen", make<Listen, 0u>},
      {"bell.late.listen.in_vain", make<Listen, 1u>},
  };
}

}  // namespace shoal::exhaust
