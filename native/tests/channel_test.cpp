// What channels do, with threads and with processes over one arena; nobody is killed but where a test says so.
#include <poll.h>
#include <sys/eventfd.h>

#include "channel/doorbell.hpp"
#include "channel/segment.hpp"
#include "core_support.hpp"

using namespace shoal;
using channel::Result;
using namespace shoal::test;

namespace {

constexpr uint64_t kBlobBytes = channel::kInline + 1;

void messages_come_in_order_and_unchanged() {
  Channel c;
  std::mt19937 random(1);
  const uint64_t sizes[] = {0,          1,      15,     16, 17, 100, 4'000, channel::kInline - 1, channel::kInline,
                            kBlobBytes, 70'000, 300'000};
  std::vector<uint64_t> under_way;
  uint64_t put_count = 0, got_count = 0;
  for (int round = 0; round < 300; ++round) {
    for (uint32_t n = random() % 20; n > 0; --n) {
      under_way.push_back(sizes[random() % std::size(sizes)]);
      CHECK(put(c.index, put_count++, under_way.back(), {}) == Result::kDone);
    }
    for (uint64_t n = random() % 20; n > 0 && got_count < put_count; --n) {
      const Got got = get(c.index, within(0));
      CHECK(got.result == Result::kDone);
      CHECK_EQUAL(got.tag, got_count);
      CHECK_EQUAL(got.bytes, under_way[got_count]);
      ++got_count;
    }
    CHECK_EQUAL(c.length(), put_count - got_count);
  }
  while (got_count < put_count) CHECK_EQUAL(get(c.index, within(0)).tag, got_count++);
  CHECK(get(c.index, within(0)).result == Result::kEmpty);
  CHECK_EQUAL(segments_in_use(), 1);
}

void destroyed_with_messages_in_it() {
  {
    Channel c;
    for (uint64_t i = 0; i < 500; ++i) CHECK(put(c.index, i, i % 3 == 0 ? kBlobBytes : 1'000, {}) == Result::kDone);
    CHECK(segments_in_use() > 3 && blobs_in_use() > 100);
  }
  check_nothing_left();
}

void a_million_messages(bool at_once) {
  const uint64_t count = 1'000'000 / kSlowdown;
  Channel c;
  const auto produce = [&] {
    channel::Message m;
    sync::Wait wait;
    for (uint64_t i = 0; i < count; ++i) {
      m.tag = i;
      m.data = &i;
      m.bytes = sizeof i;
      CHECK(channel::put(c.index, m, wait) == Result::kDone);
    }
  };
  std::thread producer(produce);
  if (at_once) {
    producer.join();
    CHECK_EQUAL(c.length(), count);
    CHECK(segments_in_use() >= count * 32 / arena::kSegmentBytes);
  }
  char buffer[channel::kInline];
  for (uint64_t i = 0; i < count; ++i) {
    channel::Taken taken;
    taken.buffer = buffer;
    sync::Wait wait = within(20 * kSecond);
    CHECK(channel::get(c.index, taken, wait) == Result::kDone);
    CHECK(taken.tag == i && taken.bytes == sizeof i && std::memcmp(buffer, &i, sizeof i) == 0);
  }
  if (!at_once) producer.join();
  CHECK(get(c.index, within(0)).result == Result::kEmpty);
  CHECK_EQUAL(segments_in_use(), 1);
}

void bounded_put_waits() {
  Channel c({.maxsize = 3});
  for (uint64_t i = 0; i < 3; ++i) CHECK(put(c.index, i, 8, within(0)) == Result::kDone);
  CHECK(put(c.index, 3, 8, within(0)) == Result::kFull);
  CHECK(put(c.index, 3, kBlobBytes, within(0)) == Result::kFull);
  const uint64_t before = os::now();
  CHECK(put(c.index, 3, 8, within(20 * kMillisecond)) == Result::kFull);
  CHECK(os::now() - before >= 20 * kMillisecond);
  CHECK_EQUAL(c.length(), 3);
  std::thread producer([&] { CHECK(put(c.index, 3, 8, within(20 * kSecond)) == Result::kDone); });
  until([] { return sleepers() == 1; });
  CHECK_EQUAL(get(c.index, within(0)).tag, 0);
  producer.join();
  for (uint64_t i = 1; i < 4; ++i) CHECK_EQUAL(get(c.index, within(0)).tag, i);
  CHECK(get(c.index, within(0)).result == Result::kEmpty);
}

void bounded_by_bytes() {
  Channel c({.byte_limit = 10'000});
  CHECK(put(c.index, 0, 50'000, within(0)) == Result::kDone);  // too large, but alone
  CHECK(put(c.index, 1, 1, within(0)) == Result::kFull);
  CHECK_EQUAL(get(c.index, within(0)).bytes, 50'000);
  uint64_t n = 0;
  while (put(c.index, n, 984, within(0)) == Result::kDone) ++n;
  CHECK_EQUAL(n, 10);
  // Several sleep for room; each one that gets it must leave the others a chance.
  std::vector<std::thread> producers;
  for (int p = 0; p < 4; ++p)
    producers.emplace_back([&] {
      for (int k = 0; k < 200; ++k) CHECK(put(c.index, 0, 3'000, within(20 * kSecond)) == Result::kDone);
    });
  until([] { return sleepers() == 4; });
  for (uint64_t k = 0; k < 800 + n; ++k) CHECK(get(c.index, within(20 * kSecond)).result == Result::kDone);
  for (std::thread& t : producers) t.join();
  CHECK_EQUAL(c.length(), 0);
}

void get_times_out() {
  Channel c;
  CHECK(get(c.index, within(0)).result == Result::kEmpty);
  const uint64_t before = os::now();
  CHECK(get(c.index, within(20 * kMillisecond)).result == Result::kEmpty);
  CHECK(os::now() - before >= 20 * kMillisecond);
  sync::Wait wait;
  wait.interrupted = [](sync::Wait&) { return true; };
  CHECK(get(c.index, wait).result == Result::kInterrupted);
  CHECK_EQUAL(nodes_in_use(), 0);
}

constexpr uint64_t kNoTag = UINT64_MAX;

struct Crowd {
  uint32_t producers, consumers;
  uint64_t each;  // messages of each producer
  uint64_t maxsize;
  bool blobs;
};

struct Tally {
  std::atomic<uint64_t> taken;
  std::atomic<uint8_t> seen[1'000'000];
};
Tally* tally = nullptr;

void produce(const Channel& c, const Crowd& crowd, uint32_t producer) {
  for (uint64_t i = 0; i < crowd.each; ++i)
    CHECK(put(c.index, producer * crowd.each + i, crowd.blobs && i % 3 == 0 ? kBlobBytes : i % 50,
              within(20 * kSecond)) == Result::kDone);
}
void consume(const Channel& c, const Crowd& crowd) {
  std::vector<uint64_t> last(crowd.producers, kNoTag);
  for (;;) {
    const Got got = get(c.index, within(20 * kSecond));
    CHECK(got.result == Result::kDone);
    if (got.tag == kNoTag) return;
    CHECK(tally->seen[got.tag].fetch_add(1) == 0);
    uint64_t& before = last[got.tag / crowd.each];
    CHECK(before == kNoTag || before < got.tag);
    before = got.tag;
    tally->taken.fetch_add(1);
  }
}
void check_tally(const Channel& c, const Crowd& crowd) {
  CHECK_EQUAL(tally->taken.load(), crowd.producers * crowd.each);
  for (uint64_t i = 0; i < crowd.producers * crowd.each; ++i) CHECK_EQUAL(tally->seen[i].load(), 1);
  CHECK_EQUAL(c.length(), 0);
  CHECK_EQUAL(segments_in_use(), 1);
  CHECK_EQUAL(nodes_in_use(), 0);
}
void dismiss(const Channel& c, const Crowd& crowd) {
  for (uint32_t i = 0; i < crowd.consumers; ++i) CHECK(put(c.index, kNoTag, 0, within(20 * kSecond)) == Result::kDone);
}

void each_once_between_threads(Crowd crowd) {
  Channel c({.maxsize = crowd.maxsize});
  std::memset(static_cast<void*>(tally), 0, sizeof *tally);
  std::vector<std::thread> producers, consumers;
  for (uint32_t i = 0; i < crowd.consumers; ++i) consumers.emplace_back([&] { consume(c, crowd); });
  for (uint32_t i = 0; i < crowd.producers; ++i) producers.emplace_back([&, i] { produce(c, crowd, i); });
  for (std::thread& t : producers) t.join();
  dismiss(c, crowd);
  for (std::thread& t : consumers) t.join();
  check_tally(c, crowd);
}

void each_once_between_processes(Crowd crowd) {
  Channel c({.maxsize = crowd.maxsize});
  std::memset(static_cast<void*>(tally), 0, sizeof *tally);
  std::vector<pid_t> producers, consumers;
  for (uint32_t i = 0; i < crowd.consumers; ++i) consumers.push_back(child([&] { consume(c, crowd); }));
  for (uint32_t i = 0; i < crowd.producers; ++i) producers.push_back(child([&, i] { produce(c, crowd, i); }));
  for (pid_t pid : producers) finish(pid);
  dismiss(c, crowd);
  for (pid_t pid : consumers) finish(pid);
  CHECK_EQUAL(recovery::recover_all(), crowd.consumers + crowd.producers);
  sweep();
  check_tally(c, crowd);
}

void joinable_counts() {
  Channel c({.flags = channel::kJoinable});
  sync::Wait forever, now = within(0), soon = within(20 * kMillisecond);
  CHECK(channel::join(c.index, now) == Result::kDone);
  CHECK(!channel::task_done(c.index, forever));
  for (uint64_t i = 0; i < 3; ++i) CHECK(put(c.index, i, 8, {}) == Result::kDone);
  CHECK(channel::join(c.index, soon) == Result::kTimeout);
  for (int i = 0; i < 3; ++i) CHECK(get(c.index, within(0)).result == Result::kDone);
  std::vector<std::thread> joiners;
  for (int i = 0; i < 3; ++i)
    joiners.emplace_back([&] {
      sync::Wait wait = within(20 * kSecond);
      CHECK(channel::join(c.index, wait) == Result::kDone);
    });
  until([] { return sleepers() == 3; });
  for (int i = 0; i < 3; ++i) CHECK(channel::task_done(c.index, forever));
  for (std::thread& t : joiners) t.join();
  CHECK(!channel::task_done(c.index, forever));
}

// Reports may come before the messages are taken; those that are taken then need none.
void joinable_counts_in_advance() {
  Channel c({.flags = channel::kJoinable});
  sync::Wait forever, now = within(0);
  for (uint64_t i = 0; i < 3; ++i) CHECK(put(c.index, i, 8, {}) == Result::kDone);
  CHECK(get(c.index, within(0)).result == Result::kDone);
  for (int i = 0; i < 3; ++i) {
    CHECK(channel::join(c.index, now) == Result::kTimeout);
    CHECK(channel::task_done(c.index, forever));
  }
  CHECK(channel::join(c.index, now) == Result::kDone);
  CHECK(!channel::task_done(c.index, forever));
  for (uint64_t i = 3; i < 5; ++i) CHECK(put(c.index, i, 8, {}) == Result::kDone);
  for (uint64_t i = 1; i < 5; ++i) CHECK(get(c.index, within(0)).tag == i);
  CHECK(channel::join(c.index, now) == Result::kTimeout);
  for (int i = 0; i < 2; ++i) CHECK(channel::task_done(c.index, forever));
  CHECK(channel::join(c.index, now) == Result::kDone);
  CHECK(!channel::task_done(c.index, forever));
}

// A consumer killed with a message that had been reported in advance owes nothing.
void reports_in_advance_outlive_their_consumer() {
  Channel c({.flags = channel::kJoinable});
  sync::Wait forever, now = within(0);
  for (uint64_t i = 0; i < 3; ++i) CHECK(put(c.index, i, 8, {}) == Result::kDone);
  CHECK(channel::task_done(c.index, forever));
  end(child([&] {
        for (int i = 0; i < 2; ++i) CHECK(get(c.index, within(0)).result == Result::kDone);
        kill(getpid(), SIGKILL);
      }),
      0);
  CHECK(recovery::recover_all() == 1);  // of its two messages one is done by now, the other was before
  CHECK(channel::join(c.index, now) == Result::kTimeout);
  CHECK(get(c.index, within(0)).result == Result::kDone && channel::task_done(c.index, forever));
  CHECK(channel::join(c.index, now) == Result::kDone);
  CHECK(!channel::task_done(c.index, forever));
}

// Who reports in advance does so for what it will take itself, not for what somebody else has in hand, who is killed then.
void reports_in_advance_are_ones_own() {
  Channel c({.flags = channel::kJoinable});
  sync::Wait forever, now = within(0);
  for (uint64_t i = 0; i < 2; ++i) CHECK(put(c.index, i, 8, {}) == Result::kDone);
  const pid_t other = child([&] {
    CHECK(get(c.index, within(0)).result == Result::kDone);
    pause();
  });
  until([&] { return channel::length((*c).ring) == 1; });
  CHECK(channel::task_done(c.index, forever));
  end(other, SIGKILL);
  CHECK(recovery::recover_all() == 1);
  CHECK(get(c.index, within(0)).result == Result::kDone);
  CHECK(channel::join(c.index, now) == Result::kDone);
  CHECK(!channel::task_done(c.index, forever));
}

// Where one process reports what another has taken, of a killed one only that is lost which it was still at: it had not asked for the next.
void joinable_is_reported_by_others(uint64_t count, bool asks_for_the_next) {
  Channel c({.flags = channel::kJoinable});
  sync::Wait forever, now = within(0);
  const pid_t taker = child([&] {
    for (uint64_t i = 0; i < count; ++i) CHECK(get(c.index, {}).result == Result::kDone);
    if (asks_for_the_next) get(c.index, {});
    pause();
  });
  for (uint64_t i = 0; i + 1 < count; ++i) {
    CHECK(put(c.index, i, 8, {}) == Result::kDone);
    CHECK(channel::task_done(c.index, forever));
  }
  CHECK(put(c.index, count, 8, {}) == Result::kDone);
  until([&] { return channel::is_empty((*c).ring) && (!asks_for_the_next || sleepers() == 1); });
  CHECK(channel::join(c.index, now) == Result::kTimeout);
  end(taker, SIGKILL);
  CHECK(recovery::recover_all() == 1);
  if (asks_for_the_next) CHECK(channel::join(c.index, now) == Result::kTimeout && channel::task_done(c.index, forever));
  CHECK(channel::join(c.index, now) == Result::kDone);
  CHECK(!channel::task_done(c.index, forever));
}

// Consumers killed at any moment, and reports before messages are taken: whatever was put is reported in the end, by whom it may be.
void joinable_survives_kills(uint32_t rounds) {
  Channel c({.flags = channel::kJoinable});
  const auto start = [&] {
    return child([&] {
      sync::Wait forever;
      for (;;) {
        CHECK(get(c.index, {}).result == Result::kDone);
        channel::task_done(c.index, forever);  // false if somebody reported it in advance
      }
    });
  };
  std::vector<pid_t> consumers;
  for (int i = 0; i < 3; ++i) consumers.push_back(start());
  for (uint32_t round = 0; round < rounds; ++round) {
    sync::Wait wait = within(20 * kSecond);
    for (uint64_t n = rand() % 40 + 1; n > 0; --n) CHECK(put(c.index, n, 8, {}) == Result::kDone);
    for (int n = rand() % 3; n > 0; --n) channel::task_done(c.index, wait);
    pid_t& one = consumers[static_cast<size_t>(rand()) % consumers.size()];
    end(one, SIGKILL);
    until([] { return recovery::recover_all() == 1; });
    one = start();
    CHECK(channel::join(c.index, wait) == Result::kDone);
    CHECK(!channel::task_done(c.index, wait));  // though what was reported in advance may not have been taken yet
  }
  for (const pid_t pid : consumers) end(pid, SIGKILL);
  CHECK_EQUAL(recovery::recover_all(), consumers.size());
}

// What a consumer had taken that was killed, or has failed, counts as done; what one that left in good order had taken waits for somebody else's task_done.
void joinable_forgives_the_dead(int exit_code) {
  const bool killed = exit_code < 0, clean = exit_code == 0;
  Channel c({.flags = channel::kJoinable});
  for (uint64_t i = 0; i < 5; ++i) CHECK(put(c.index, i, 8, {}) == Result::kDone);
  const pid_t consumer = child([&] {
    sync::Wait wait;
    for (int i = 0; i < 4; ++i) CHECK(get(c.index, within(0)).result == Result::kDone);
    CHECK(channel::task_done(c.index, wait));
    if (!killed) {
      process::leave(exit_code, true);
      std::_Exit(0);
    }
    kill(getpid(), SIGKILL);
  });
  end(consumer, 0);
  std::thread recoverer;
  sync::Wait wait = within(20 * kSecond), soon = within(20 * kMillisecond);
  CHECK(get(c.index, within(0)).result == Result::kDone && channel::task_done(c.index, wait));
  CHECK(channel::join(c.index, soon) == Result::kTimeout);
  if (clean) {
    CHECK(recovery::recover_all() == 1);
    for (int i = 0; i < 3; ++i) CHECK(channel::task_done(c.index, wait));
  } else {
    recoverer = std::thread([] {
      until([] { return sleepers() == 1; });
      CHECK(recovery::recover_all() == 1);
    });
  }
  CHECK(channel::join(c.index, wait) == Result::kDone);
  CHECK(!channel::task_done(c.index, wait));
  if (recoverer.joinable()) recoverer.join();
}

// A producer killed with a segment that it had claimed and not linked: that one is freed, and of a long backlog nothing else.
void stray_segments_are_told_from_a_backlog(uint64_t count) {
  Channel c;
  for (uint64_t i = 0; i < count; ++i) CHECK(put(c.index, i, 1'000, {}) == Result::kDone);
  const auto its_segments = [&] {
    uint64_t n = 0;
    for (uint32_t i = 0; i < arena::grown(arena::kSegmentTable); ++i)
      n += channel::segment_word(i).load() == channel::link_of(c.index) ? 1 : 0;
    return n;
  };
  const uint64_t linked = its_segments();
  CHECK(linked >= count / 64);
  end(child([&] {
        sync::Wait wait;
        uint32_t fresh = 0;
        CHECK(sync::lock((*c).ring.tail_mutex, wait) == sync::Lock::kTaken);
        CHECK(channel::claim_segment(channel::link_of(c.index), fresh) == arena::Status::kOk);
        kill(getpid(), SIGKILL);
      }),
      0);
  CHECK_EQUAL(its_segments(), linked + 1);
  CHECK(recovery::recover_all() == 1);
  CHECK_EQUAL(its_segments(), linked);
  for (uint64_t i = 0; i < count; ++i) CHECK_EQUAL(get(c.index, within(0)).tag, i);
  CHECK(get(c.index, within(0)).result == Result::kEmpty);
}

// Killed in task_done, when it had counted the message but still had it on its account.
void joinable_killed_while_reporting() {
  Channel c({.flags = channel::kJoinable});
  CHECK(put(c.index, 0, 8, {}) == Result::kDone && put(c.index, 1, 8, {}) == Result::kDone);
  end(child([&] {
        sync::Wait wait;
        CHECK(get(c.index, within(0)).result == Result::kDone);
        CHECK(sync::lock((*c).ring.head_mutex, wait) == sync::Lock::kTaken);
        (*c).touching = process::mine();
        (*c).done_total.fetch_add(1);
        kill(getpid(), SIGKILL);
      }),
      0);
  CHECK(recovery::recover_all() == 1);
  CHECK_EQUAL((*c).done_total.load(), 1);
  sync::Wait wait = within(kSecond);
  CHECK(get(c.index, within(0)).result == Result::kDone && channel::task_done(c.index, wait));
  CHECK(channel::join(c.index, wait) == Result::kDone);
}

void sleeping_consumers_are_woken(uint32_t count, int rounds) {
  Channel c;
  for (int round = 0; round < rounds; ++round) {
    std::vector<std::thread> consumers;
    std::atomic<uint64_t> sum{0};
    for (uint32_t i = 0; i < count; ++i)
      consumers.emplace_back([&] {
        const Got got = get(c.index, within(20 * kSecond));
        CHECK(got.result == Result::kDone);
        sum += got.tag;
      });
    if (round % 2 == 0) until([&] { return sleepers() == count; });
    for (uint32_t i = 1; i <= count; ++i) CHECK(put(c.index, i, 8, {}) == Result::kDone);
    for (std::thread& t : consumers) t.join();
    CHECK_EQUAL(sum.load(), count * (count + 1) / 2);
  }
}

// The waker of one sleeper must not keep a call that is for all of them from the rest.
void calls_reach_every_sleeper(bool closing, bool with_a_message) {
  constexpr uint32_t kCount = 4;
  for (int round = 0; round < 100; ++round) {
    Channel c;
    std::vector<std::thread> consumers;
    std::atomic<uint32_t> got_one{0};
    for (uint32_t i = 0; i < kCount; ++i)
      consumers.emplace_back([&] {
        const Got got = get(c.index, within(20 * kSecond));
        const uint64_t before = os::now();
        CHECK(got.result == Result::kDone || got.result == Result::kEmpty);
        got_one += got.result == Result::kDone ? 1 : 0;
        CHECK(os::now() - before < 20 * kSecond);
      });
    until([&] { return sleepers() == kCount; });
    const uint64_t before = os::now();
    if (with_a_message) CHECK(put(c.index, 0, 8, {}) == Result::kDone);
    if (closing)
      channel::close(c.index);
    else
      channel::wake(c.index);
    for (std::thread& t : consumers) t.join();
    CHECK(os::now() - before < 15 * kSecond);  // by the call, not by their timeout
    CHECK(with_a_message ? got_one + c.length() == 1 : got_one == 0);
  }
}

// One thread gives up the wait of another, which sleeps, spins or has only just looked; a third, that waits for a message, gets the one there will be.
void a_wait_can_be_given_up() {
  for (int round = 0; round < 300; ++round) {
    Channel c;
    bool given_up = false;
    std::thread awaiting([&] {
      sync::Wait wait = within(20 * kSecond);
      CHECK(channel::await(c.index, wait, &given_up) == Result::kEmpty);
      CHECK(os::now() < wait.deadline);
    });
    std::thread getting([&] { CHECK_EQUAL(get(c.index, within(20 * kSecond)).tag, 7); });
    if (round % 3 == 0) until([&] { return sleepers() == 2; });
    if (round % 3 == 1) std::this_thread::yield();
    __atomic_store_n(&given_up, true, __ATOMIC_SEQ_CST);
    channel::rouse(c.index);
    awaiting.join();
    CHECK(put(c.index, 7, 8, {}) == Result::kDone);
    getting.join();
  }
}

// Waiting leaves the message to whoever takes it, and every waiter sees it.
void a_message_that_is_awaited_stays() {
  for (int round = 0; round < 100; ++round) {
    Channel c;
    std::vector<std::thread> waiters;
    for (int i = 0; i < 3; ++i)
      waiters.emplace_back([&] {
        sync::Wait wait = within(20 * kSecond);
        CHECK(channel::await(c.index, wait) == Result::kDone);
      });
    if (round % 2 == 0) until([&] { return sleepers() == 3; });
    CHECK(put(c.index, 1, 8, {}) == Result::kDone);
    for (std::thread& t : waiters) t.join();
    CHECK_EQUAL(get(c.index, within(0)).tag, 1);
  }
}

void closed_channel_is_drained() {
  Channel c;
  CHECK(put(c.index, 7, 8, {}) == Result::kDone);
  channel::close(c.index);
  CHECK_EQUAL(get(c.index, {}).tag, 7);
  CHECK(get(c.index, {}).result == Result::kEmpty);
}

// Two who talk in turns, and sleep whenever there is nothing yet: a bell that did not ring would leave both asleep.
void late_bells_ring(uint64_t count) {
  struct End {
    Channel channel;
    int bell = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    void say(uint64_t number) {
      CHECK(put(channel.index, number, 8, {}) == Result::kDone);
      channel::call(*channel, bell);
    }
    uint64_t hear() {
      for (;;) {
        const Got got = get(channel.index, within(0));
        if (got.result == Result::kDone) return got.tag;
        if (!channel::listen(*channel)) continue;
        pollfd p{bell, POLLIN, 0};
        CHECK(poll(&p, 1, 20'000) == 1);
        uint64_t rung = 0;
        CHECK(read(bell, &rung, sizeof rung) == sizeof rung);
      }
    }
    ~End() { close(bell); }
  } there, back;
  std::thread other([&] {
    for (uint64_t i = 0; i < count; ++i) back.say(there.hear() + 1);
  });
  for (uint64_t i = 0; i < count; ++i) {
    there.say(i);
    CHECK_EQUAL(back.hear(), i + 1);
  }
  other.join();
}

// A waker that is killed after its commit and before its wake-up: recovery wakes in its place.
void recovery_wakes_for_the_killed() {
  Channel c;
  const pid_t producer = child([&] {
    until([] { return sleepers() == 1; });
    channel::Message m;
    m.tag = 5;
    sync::Wait wait;
    const channel::PutHook hook;
    const channel::Repairs repairs;
    CHECK(channel::put((*c).ring, m, wait, hook, repairs) == Result::kDone);  // the commit alone
    kill(getpid(), SIGKILL);
  });
  std::thread recoverer([&] {
    end(producer, 0);
    CHECK(recovery::recover_all() == 1);
  });
  CHECK_EQUAL(get(c.index, within(20 * kSecond)).tag, 5);
  recoverer.join();
}

}  // namespace

int main() {
  prepare(100);
  tally = shared_memory<Tally>();
  const uint64_t each = 60'000 / kSlowdown;
  messages_come_in_order_and_unchanged();
  destroyed_with_messages_in_it();
  a_million_messages(false);
  a_million_messages(true);
  bounded_put_waits();
  bounded_by_bytes();
  get_times_out();
  each_once_between_threads({3, 3, each, 0, false});
  each_once_between_threads({3, 3, each / 3, 7, true});
  each_once_between_threads({4, 1, each / 4, 1, false});
  each_once_between_processes({3, 3, each, 0, false});
  each_once_between_processes({3, 3, each / 3, 7, true});
  each_once_between_processes({4, 1, each / 4, 1, false});
  joinable_counts();
  joinable_counts_in_advance();
  reports_in_advance_outlive_their_consumer();
  reports_in_advance_are_ones_own();
  for (uint64_t count : {2, 5000})
    for (bool asks_for_the_next : {false, true}) joinable_is_reported_by_others(count, asks_for_the_next);
  joinable_survives_kills(500);
  for (int exit_code : {-1, 0, 1}) joinable_forgives_the_dead(exit_code);
  stray_segments_are_told_from_a_backlog(10'000 / kSlowdown);
  joinable_killed_while_reporting();
  sleeping_consumers_are_woken(1, 200);
  sleeping_consumers_are_woken(8, 100);
  for (bool closing : {false, true})
    for (bool with_a_message : {false, true}) calls_reach_every_sleeper(closing, with_a_message);
  a_wait_can_be_given_up();
  a_message_that_is_awaited_stays();
  closed_channel_is_drained();
  recovery_wakes_for_the_killed();
  late_bells_ring(20'000 / kSlowdown);
  check_nothing_left();
  std::puts("channel_test: all good");
}
