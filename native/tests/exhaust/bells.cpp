// The bell of a pipe: while a message waits in an armed channel its descriptor is readable, and once somebody has found the channel empty it is not.
#include <poll.h>
#include <sys/eventfd.h>

#include "channels.hpp"

namespace shoal::exhaust {

namespace {

using channel::Result;

class BellScenario : public Scenario {
 public:
  BellScenario(uint32_t armed, uint32_t before) : armed_(armed), before_(before) {}
  void prepare() override {
    bell = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    CHECK(bell >= 0);
    channel = make_channel({});
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
  void finish() override {
    recovery::let_go(channel);
    close(bell);
  }

 protected:
  bool put(uint64_t number) const {
    channel::Message m;
    m.data = &number;
    m.bytes = sizeof number;
    m.tag = number;
    sync::Wait wait = soon();
    return channel::put_now(channel, m, wait, bell) == Result::kDone;
  }
  uint64_t get() const {
    char buffer[channel::kInline];
    channel::Taken out;
    out.buffer = buffer;
    sync::Wait wait = soon();
    return channel::get_now(channel, out, wait, bell) == Result::kDone ? out.tag : 0;
  }
  bool rings() const {
    pollfd p{bell, POLLIN, 0};
    return poll(&p, 1, 0) == 1;
  }
  uint32_t armed_, before_, channel = 0;
  int bell = -1;
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

}  // namespace

std::vector<Entry> bell_operations() {
  return {
      {"bell.put.once", make<PutRinging, channel::kArmedOnce, 0u>},
      {"bell.put.always", make<PutRinging, channel::kArmedAlways, 0u>},
      {"bell.get", make<GetSilencing, channel::kArmedAlways, 2u>},
      {"bell.get.last", make<GetSilencing, channel::kArmedAlways, 1u>},
      {"bell.arm", make<Arm>},
  };
}

}  // namespace shoal::exhaust
