// Messages over a socket: nothing of them is shared memory, so a kill can only come between two system calls, and the kernel tells the other side. What is to be shown is
// that no call that fails, or moves a part only, makes one message out of two.
#include <poll.h>
#include <sys/socket.h>

#include <cstdlib>
#include <string>

#include "scenario.hpp"
#include "stream/stream.hpp"

namespace shoal::exhaust {

namespace {

using stream::Result;

constexpr uint64_t kMessages = 3;

std::string text_of(uint64_t number) { return std::string(5 * number, static_cast<char>('a' + number)); }

Result send(int fd, uint64_t number, size_t& written) {
  stream::Head head = stream::Head::of(text_of(number).size());
  std::string text = text_of(number);
  const iovec parts[2] = {{head.text, head.bytes}, {text.data(), text.size()}};
  sync::Wait wait = soon();
  return stream::drain(fd, parts, written, wait);
}

Result receive(int fd, std::string& text) {
  stream::Head head;
  sync::Wait wait = soon();
  Result result = Result::kDone;
  while (result == Result::kDone && !head.complete())
    result = stream::fill(fd, head.text, head.expected(), head.bytes, wait, false);
  if (result != Result::kDone) return result;
  text.resize(head.size());
  size_t filled = 0;
  return stream::fill(fd, text.data(), text.size(), filled, wait, false);
}

class StreamScenario : public Scenario {
 public:
  void prepare() override {
    int pair[2];
    CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
    theirs = pair[0];
    ours = pair[1];
  }
  void begin() override { close(ours); }
  void before_steps() override { close(theirs); }
  void finish() override { close(ours); }

 protected:
  int ours = -1, theirs = -1;  // the survivor's end, and the victim's
};

// A sender that fails in the middle of a message sends no other.
class Send final : public StreamScenario {
 public:
  void operate() override {
    for (uint64_t number = 1; number <= kMessages; ++number) {
      size_t written = 0;
      if (send(theirs, number, written) != Result::kDone && written != 0) return;
    }
  }
  void check() override {
    std::string text;
    uint64_t last = 0;
    Result result;
    while ((result = receive(ours, text)) == Result::kDone) {
      CHECK(text.size() % 5 == 0 && text.size() / 5 > last && text == text_of(text.size() / 5));
      last = text.size() / 5;
      CHECK(last <= kMessages);
    }
    CHECK(result == Result::kEnd);
  }
};

// A receiver goes on with what it has of a message, whatever a call says.
class Receive final : public StreamScenario {
 public:
  void prepare() override {
    StreamScenario::prepare();
    for (uint64_t number = 1; number <= kMessages; ++number) {
      size_t written = 0;
      CHECK(send(ours, number, written) == Result::kDone);
    }
  }
  void operate() override {
    for (uint64_t number = 1; number <= kMessages; ++number) {
      std::string text;
      if (receive(theirs, text) != Result::kDone) return;
      if (text != text_of(number)) std::abort();  // an exit would count as giving up
    }
  }
  void check() override {
    pollfd p{ours, 0, 0};
    CHECK(poll(&p, 1, 0) == 1 && (p.revents & POLLHUP) != 0);
  }
};

}  // namespace

std::vector<Entry> stream_operations() {
  return {
      {"stream.send", make<Send>},
      {"stream.receive", make<Receive>},
  };
}

}  // namespace shoal::exhaust
