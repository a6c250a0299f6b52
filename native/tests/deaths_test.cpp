// Producers and consumers killed at any moment, and now and then the one who recovers them: what the history of all messages must show.
//
//   deaths_test [SHOAL_WATCHER]    with that program as the recoverer; otherwise a process of this test
#include <spawn.h>
#include <sys/prctl.h>

#include "core_support.hpp"

extern char** environ;

using namespace shoal;
using channel::Result;
using namespace shoal::test;

namespace {

constexpr uint32_t kChannels = 3, kProducers = 2, kConsumers = 2;  // of each channel
constexpr uint64_t kEach = 4'096;                                  // messages of one life of a producer
constexpr uint64_t kLives = 4'096;                                 // of producers, of one channel

struct Line {  // one channel's history
  std::atomic<uint64_t> lives, reported;
  std::atomic<uint64_t> begun[kLives], put[kLives];  // messages of that life
  std::atomic<uint64_t> last[kConsumers][kLives];    // the last one seen there, + 1
  std::atomic<uint8_t> seen[kLives * kEach];
};
struct History {
  std::atomic<uint32_t> stop;
  std::atomic<uint64_t> steps[kChannels * (kProducers + kConsumers)];
  Line lines[kChannels];
};
History* history = nullptr;

uint64_t bytes_of(uint32_t line, uint64_t id) { return line == 0 || id % 4 != 0 ? id % 200 : 10'000 + id % 60'000; }

void produce(const Channel& c, uint32_t line, std::atomic<uint64_t>& steps) {
  Line& l = history->lines[line];
  for (;;) {
    const uint64_t life = l.lives.fetch_add(1);
    CHECK(life < kLives);
    for (uint64_t n = 0; n < kEach; ++n) {
      while (history->stop != 0 || c.length() > 3'000) {
        steps.fetch_add(1);
        usleep(500);
      }
      const uint64_t id = life * kEach + n;
      l.begun[life] = n + 1;
      const Result r = put(c.index, id, bytes_of(line, id), {});
      CHECK(r == Result::kDone);
      l.put[life] = n + 1;
      steps.fetch_add(1);
    }
    usleep(1'000);
  }
}

void consume(const Channel& c, uint32_t line, uint32_t place, std::atomic<uint64_t>& steps) {
  Line& l = history->lines[line];
  for (uint64_t round = 0;; ++round) {
    const Got got = get(c.index, round % 3 == 0 ? within(kMillisecond) : sync::Wait{});
    steps.fetch_add(1);
    if (got.result == Result::kEmpty || got.result == Result::kTimeout) continue;
    CHECK(got.result == Result::kDone);
    const uint64_t life = got.tag / kEach, n = got.tag % kEach;
    CHECK_EQUAL(got.bytes, bytes_of(line, got.tag));
    CHECK_EQUAL(l.seen[got.tag].fetch_add(1), 0);        // no duplicate
    CHECK(l.last[place][life].exchange(n + 1) < n + 1);  // each producer's order
    l.reported.fetch_add(1);
    if (line == 2) {
      sync::Wait wait;
      CHECK(channel::task_done(c.index, wait));
    }
  }
}

void start_watcher(char* path) {
  char number[16], detach[] = "--detach";
  std::snprintf(number, sizeof number, "%d", arena::descriptor());
  char* argv[] = {path, detach, number, nullptr};
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, arena::descriptor(), arena::descriptor());
  pid_t pid = 0;
  CHECK(posix_spawn(&pid, path, &actions, nullptr, argv, environ) == 0);
  posix_spawn_file_actions_destroy(&actions);
  finish(pid);
}

struct Place {
  pid_t pid;
  uint32_t line, number;
  bool consumes;
};

}  // namespace

int main(int argc, char** argv) {
  prepare(110);
  history = shared_memory<History>();
  const bool real_watcher = argc > 1;
  std::mt19937 random(static_cast<unsigned>(os::now()));
  {
    Channel plain, bounded({.maxsize = 5}), joinable({.flags = channel::kJoinable});
    const Channel* channels[kChannels] = {&plain, &bounded, &joinable};
    std::vector<Place> places;
    std::vector<uint64_t> killed_consumers(kChannels, 0);
    const auto steps = [&](const Place& p) -> std::atomic<uint64_t>& {
      return history->steps[static_cast<size_t>(&p - places.data())];
    };
    const auto start = [&](Place& p) {
      p.pid = child([&] {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (p.consumes)
          consume(*channels[p.line], p.line, p.number, steps(p));
        else
          produce(*channels[p.line], p.line, steps(p));
      });
    };
    for (uint32_t line = 0; line < kChannels; ++line)
      for (uint32_t n = 0; n < kProducers + kConsumers; ++n)
        places.push_back({0, line, n < kProducers ? n : n - kProducers, n >= kProducers});
    for (Place& p : places) start(p);
    const auto start_recoverer = [&] {
      return child([] {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (;;) {
          recovery::recover_all();
          usleep(300);
        }
      });
    };
    pid_t recoverer = 0;
    if (real_watcher)
      start_watcher(argv[1]);
    else
      recoverer = start_recoverer();

    const auto all_get_on = [&](bool consumers) {
      for (const Place& p : places) {
        if (p.consumes && !consumers) continue;
        const uint64_t before = steps(p);
        const uint64_t limit = os::now() + 20 * kSecond;
        while (steps(p) == before) {
          if (os::now() > limit) {
            std::fprintf(stderr, "deaths_test: %s %u of channel %u hangs; %u messages in it\n",
                         p.consumes ? "consumer" : "producer", p.number, p.line, channels[p.line]->length());
            std::_Exit(1);
          }
          usleep(200);
        }
      }
    };
    uint64_t kills = 0, recoverers_killed = 0;
    const uint64_t end_at = os::now() + 8 * kSecond;
    while (os::now() < end_at) {
      usleep(random() % 3'000);
      if (recoverer != 0 && random() % 8 == 0) {
        end(recoverer, SIGKILL);
        recoverer = start_recoverer();
        ++recoverers_killed;
        continue;
      }
      Place& p = places[random() % places.size()];
      end(p.pid, SIGKILL);
      if (p.consumes) ++killed_consumers[p.line];
      ++kills;
      start(p);
      if (kills % 64 == 0) all_get_on(true);
    }
    // The consumers take what is left, while no producer puts any more.
    history->stop = 1;
    all_get_on(false);
    all_get_on(false);
    for (Place& p : places)
      if (!p.consumes) end(p.pid, SIGKILL);
    until([&] { return plain.length() + bounded.length() + joinable.length() == 0; });
    // Joined: every message was reported done, or its consumer killed.
    for (int n = 0; n < 50 && (*channels[2]).length() == 0; ++n) {
      sync::Wait wait = within(kSecond);
      if (channel::join(joinable.index, wait) == Result::kDone) break;
      CHECK(n < 10);
    }
    // One that is between its get and its report loses nothing: it is given the time.
    for (int quiet = 0; quiet < 20; ++quiet) {
      uint64_t before = 0, after = 0;
      for (const Line& l : history->lines) before += l.reported;
      usleep(10'000);
      for (const Line& l : history->lines) after += l.reported;
      if (before != after) quiet = 0;
    }
    for (Place& p : places)
      if (p.consumes) end(p.pid, SIGKILL);
    if (recoverer != 0) {
      end(recoverer, SIGKILL);
      recovery::recover_all();
    }
    const uint32_t others = real_watcher ? 1 : 0;
    until([&] { return slots_in_use() == 1 + others; });
    CHECK(!recovery::recover_all());

    uint64_t messages = 0;
    for (uint32_t line = 0; line < kChannels; ++line) {
      const Line& l = history->lines[line];
      uint64_t lost = 0;
      for (uint64_t life = 0; life < l.lives; ++life) {
        for (uint64_t n = 0; n < kEach; ++n) {
          const bool seen = l.seen[life * kEach + n] != 0;
          CHECK(!seen || n < l.begun[life]);
          lost += !seen && n < l.put[life] ? 1 : 0;
          messages += seen ? 1 : 0;
        }
      }
      if (lost > killed_consumers[line]) {
        std::fprintf(stderr, "deaths_test: channel %u lost %llu messages, though only %llu consumers were killed\n",
                     line, static_cast<unsigned long long>(lost),
                     static_cast<unsigned long long>(killed_consumers[line]));
        return 1;
      }
    }
    sync::Wait wait = within(kSecond);
    CHECK(channel::join(joinable.index, wait) == Result::kDone);
    CHECK(!channel::task_done(joinable.index, wait));
    CHECK_EQUAL(blobs_in_use(), 0);
    CHECK_EQUAL(nodes_in_use(), 0);
    CHECK_EQUAL(permits_in_use(), 0);
    CHECK_EQUAL(objects_in_use(), kChannels);
    CHECK(segments_in_use() <= kChannels + 1);  // one each, and the accounts
    std::printf("deaths_test: %llu messages, %llu kills, %llu of the recoverer\n",
                static_cast<unsigned long long>(messages), static_cast<unsigned long long>(kills),
                static_cast<unsigned long long>(recoverers_killed));
  }
  sweep();
  CHECK_EQUAL(segments_in_use(), 0);
  if (!real_watcher) check_nothing_left();
  std::puts("deaths_test: all good");
}
