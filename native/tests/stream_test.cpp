// Messages over descriptors: heads, parts, interruptions at every byte, and senders that are killed.
#include "stream/stream.hpp"

#include <fcntl.h>
#include <sys/socket.h>

#include <string>

#include "core_support.hpp"

using namespace shoal;
using namespace shoal::test;
using stream::Head;
using stream::Result;

namespace {

struct Ends {
  int near = -1, far = -1;
  explicit Ends(bool sockets) {
    int pair[2];
    CHECK((sockets ? socketpair(AF_UNIX, SOCK_STREAM, 0, pair) : pipe(pair)) == 0);
    near = pair[1];  // writes
    far = pair[0];
  }
  ~Ends() {
    hang_up();
    close(far);
  }
  Ends(const Ends&) = delete;
  Ends& operator=(const Ends&) = delete;
  void hang_up() {
    if (near >= 0) close(near);
    near = -1;
  }
};

Result send(int fd, const std::string& text, size_t& written, sync::Wait wait = {}) {
  Head head = Head::of(text.size());
  std::string copy = text;
  const iovec parts[2] = {{head.text, head.bytes}, {copy.data(), copy.size()}};
  return stream::drain(fd, parts, written, wait);
}

void send_all(int fd, const std::string& text) {
  size_t written = 0;
  CHECK(send(fd, text, written) == Result::kDone);
}

// What has come of a message, as the bindings keep it.
struct Arrival {
  Head head;
  std::string text;
  size_t filled = 0;
  Result receive(int fd, sync::Wait wait = {}, bool brisk = false) {
    Result result = Result::kDone;
    while (result == Result::kDone && !head.complete())
      result = stream::fill(fd, head.text, head.expected(), head.bytes, wait, brisk);
    if (result != Result::kDone) return result;
    text.resize(head.size());
    return stream::fill(fd, text.data(), text.size(), filled, wait, brisk);
  }
};

std::string received(int fd, bool brisk = false) {
  Arrival a;
  CHECK(a.receive(fd, {}, brisk) == Result::kDone);
  return a.text;
}

std::string payload(uint64_t bytes, uint64_t seed) {
  std::string text(bytes, 0);
  fill(text.data(), bytes, seed);
  return text;
}

sync::Wait giving_up() {
  sync::Wait wait;
  wait.interrupted = [](sync::Wait&) { return true; };
  return wait;
}

// Sends this thread a signal twice a millisecond, so that the sleeps end at once.
class Alarms {
 public:
  Alarms() {
    struct sigaction action{};
    action.sa_handler = [](int) {};
    CHECK(sigaction(SIGUSR1, &action, nullptr) == 0);
    thread_ = std::thread([this, whom = pthread_self()] {
      while (!done_) {
        pthread_kill(whom, SIGUSR1);
        std::this_thread::sleep_for(std::chrono::microseconds(500));
      }
    });
  }
  ~Alarms() {
    done_ = true;
    thread_.join();
  }
  Alarms(const Alarms&) = delete;
  Alarms& operator=(const Alarms&) = delete;

 private:
  std::atomic<bool> done_{false};
  std::thread thread_;
};

void heads_say_what_the_standard_library_says() {
  const auto text = [](uint64_t size) {
    const Head head = Head::of(size);
    CHECK(head.complete());
    return std::string(head.text, head.bytes);
  };
  CHECK(text(5) == std::string("\0\0\0\5", 4));
  CHECK(text(0x7FFF'FFFF) == std::string("\x7F\xFF\xFF\xFF", 4));
  CHECK(text(0x8000'0000) == std::string("\xFF\xFF\xFF\xFF\0\0\0\0\x80\0\0\0", 12));
  for (uint64_t size : {0ull, 1ull, 0x7FFF'FFFFull, 0x8000'0000ull, 1ull << 40}) CHECK(Head::of(size).size() == size);
  Head nobody;
  nobody.text[0] = '\x80';  // below 0, and not -1
  nobody.bytes = Head::kShort;
  CHECK(nobody.complete() && nobody.size() == UINT64_MAX);
}

void messages_of_all_sizes_arrive(bool sockets) {
  Ends ends(sockets);
  const std::vector<uint64_t> sizes = {0, 1, 4095, 4096, 4097, 65'536, 1'000'000, 3'000'001};
  std::thread sender([&] {
    for (uint64_t size : sizes) send_all(ends.near, payload(size, size));
  });
  for (uint64_t size : sizes) CHECK(received(ends.far, size % 2 == 0) == payload(size, size));
  sender.join();
  ends.hang_up();
  CHECK(Arrival().receive(ends.far) == Result::kEnd);
}

// The wait is given up after each byte; what has come is kept.
void a_message_comes_byte_by_byte(bool sockets, bool brisk) {
  Ends ends(sockets);
  const std::string text = payload(300, 1);
  Head head = Head::of(text.size());
  const std::string bytes = std::string(head.text, head.bytes) + text;
  Arrival a;
  const Alarms alarms;
  for (char byte : bytes) {
    CHECK(a.receive(ends.far, giving_up(), brisk) == Result::kInterrupted);
    CHECK(write(ends.near, &byte, 1) == 1);
  }
  CHECK(a.receive(ends.far, giving_up()) == Result::kDone);
  CHECK(a.text == text);
}

void what_was_written_before_an_interruption_is_told(bool sockets) {
  Ends ends(sockets);
  const std::string text = payload(5'000'000, 2);
  size_t written = 0;
  {
    const Alarms alarms;
    CHECK(send(ends.near, text, written, giving_up()) == Result::kInterrupted);
  }
  CHECK(written > 0 && written < text.size());
  ends.hang_up();
  Arrival a;
  CHECK(a.receive(ends.far) == Result::kEnd);
  CHECK_EQUAL(a.head.bytes + a.filled, written);
  CHECK(a.text.compare(0, a.filled, text, 0, a.filled) == 0);
}

void a_descriptor_that_does_not_block_says_so(bool sockets) {
  Ends ends(sockets);
  for (int fd : {ends.near, ends.far}) CHECK(fcntl(fd, F_SETFL, O_NONBLOCK) == 0);
  Arrival a;
  CHECK(a.receive(ends.far) == Result::kError && errno == EAGAIN);
  CHECK(write(ends.near, "\0\0\0\5te", 6) == 6);
  CHECK(a.receive(ends.far) == Result::kError && errno == EAGAIN && a.filled == 2);
  CHECK(write(ends.near, "xt!", 3) == 3);
  CHECK(a.receive(ends.far) == Result::kDone && a.text == "text!");
  size_t written = 0;
  CHECK(send(ends.near, payload(5'000'000, 3), written) == Result::kError && errno == EAGAIN && written > 0);
}

void errors_are_told(bool sockets) {
  Ends ends(sockets);
  size_t written = 0;
  CHECK(send(-1, "text", written) == Result::kError && errno == EBADF);
  CHECK(Arrival().receive(-1) == Result::kError && errno == EBADF);
  signal(SIGPIPE, SIG_IGN);
  close(ends.far);
  CHECK(send(ends.near, "text", written) == Result::kError && errno == EPIPE);
  ends.far = -1;
}

// Each message that comes is whole, and the next of its sender; a kill leaves the end of file.
void senders_are_killed(bool sockets, int rounds) {
  std::mt19937 random(7);
  for (int round = 0; round < rounds; ++round) {
    Ends ends(sockets);
    const pid_t sender = fork();
    CHECK(sender >= 0);
    if (sender == 0) {
      for (uint64_t number = 0;; ++number) send_all(ends.near, payload(number * 7919 % 100'000, number));
    }
    ends.hang_up();
    uint64_t number = 0;
    for (const uint64_t last = random() % 200; number <= last; ++number)
      CHECK(received(ends.far) == payload(number * 7919 % 100'000, number));
    CHECK(kill(sender, SIGKILL) == 0);
    for (Arrival a; a.receive(ends.far) == Result::kDone; a = {}, ++number)
      CHECK(a.text == payload(number * 7919 % 100'000, number));
    CHECK(waitpid(sender, nullptr, 0) == sender);
  }
}

}  // namespace

int main() {
  heads_say_what_the_standard_library_says();
  for (bool sockets : {true, false}) {
    messages_of_all_sizes_arrive(sockets);
    for (bool brisk : {false, true}) a_message_comes_byte_by_byte(sockets, brisk);
    what_was_written_before_an_interruption_is_told(sockets);
    a_descriptor_that_does_not_block_says_so(sockets);
    errors_are_told(sockets);
    senders_are_killed(sockets, 40 / kSlowdown + 1);
  }
  std::puts("stream_test: all good");
}
