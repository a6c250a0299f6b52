// Several who recover one dead process: what each may rely on when it is told that the work is done, and what becomes of those that wait for one who does
// not get on with it.
#include <linux/futex.h>
#include <sys/resource.h>

#include "core_support.hpp"
#include "memory/memory.hpp"

using namespace shoal;
using namespace shoal::test;

namespace {

constexpr uint32_t kObjects = 40, kRounds = 40 / kSlowdown;

// Made by a child, held by nobody else: so they go when the child has gone, in the sweep that ends its recovery.
process::Token somebody_who_died_with_objects() {
  const pid_t pid = child([] {
    for (uint32_t i = 0; i < kObjects; ++i) {
      uint32_t index = 0, generation = 0;
      CHECK(memory::create(i % 2 == 0 ? 100 : 10'000, index, generation) == arena::Status::kOk);
    }
    kill(getpid(), SIGKILL);
  });
  const process::Token life = process::last_fork();
  end(pid, 0);
  return life;
}

bool has_moved_on(process::Token dead) {
  return !process::names(dead, process::slot(process::slot_of(dead)).word.load());
}

// A process, exec'd as far as the arena can tell: no fork window of its own keeps what existed when it was forked.
pid_t stranger(void (*work)()) {
  return child([work] {
    process::Slot& mine = process::slot(process::mine());
    mine.window_low = process::kWindowOpen;
    mine.window_high = 0;
    shared->ready.fetch_add(1);
    work();
  });
}

void recover_whoever_dies() {
  for (;;) recovery::recover_all();
}

// It looks, and calls nothing that would wait: what the slot says must be enough.
void whoever_finds_the_slot_free_finds_nothing_left() {
  shared->ready = 0;
  const pid_t watcher = stranger(recover_whoever_dies);
  until([] { return shared->ready == 1; });
  for (uint32_t round = 0; round < kRounds; ++round) {
    const process::Token dead = somebody_who_died_with_objects();
    const uint64_t limit = os::now() + 20 * kSecond;
    while (!has_moved_on(dead)) CHECK(os::now() < limit);
    CHECK_EQUAL(objects_in_use(), 0);
    CHECK_EQUAL(blobs_in_use(), 0);
  }
  end(watcher, SIGKILL);
  CHECK(recovery::recover_all() == 1);
}

// As join does, while the watcher is at it, too, and other threads join.
void all_who_ask_at_once_are_told_when_it_is_done() {
  for (uint32_t round = 0; round < kRounds; ++round) {
    const process::Token dead = somebody_who_died_with_objects();
    const auto ask = [&] {
      sync::Wait wait = within(20 * kSecond);
      CHECK(recovery::recover_life(dead, wait));
      CHECK_EQUAL(objects_in_use(), 0);
      CHECK_EQUAL(blobs_in_use(), 0);
    };
    std::thread others[] = {std::thread(ask), std::thread(ask)};
    recovery::recover_all();
    ask();
    for (std::thread& t : others) t.join();
    CHECK(has_moved_on(dead));
  }
}

void who_lives_is_not_recovered() {
  shared->ready = 0;
  const pid_t pid = stranger([] { pause(); });
  const process::Token life = process::last_fork();
  until([] { return shared->ready == 1; });
  sync::Wait wait = within(kSecond);
  CHECK(!recovery::recover_life(life, wait));
  // Nor by one who has no descriptor left to look by.
  rlimit files{};
  CHECK(getrlimit(RLIMIT_NOFILE, &files) == 0);
  const rlimit none{0, files.rlim_max};
  CHECK(setrlimit(RLIMIT_NOFILE, &none) == 0);
  CHECK(!recovery::recover_life(life, wait));
  CHECK(setrlimit(RLIMIT_NOFILE, &files) == 0);
  end(pid, SIGKILL);
  CHECK(recovery::recover_life(life, wait));
  CHECK(recovery::recover_life(life, wait));  // asked again, and of a life that has long gone
}

// Whoever waits for one that has been stopped gives up when its time is over, and gets the work done once that one goes on, or is killed.
void one_who_is_stopped_is_not_waited_for_without_end(int then) {
  shared->ready = 0;
  const pid_t stopped = stranger([] {
    recovery::enter();
    raise(SIGSTOP);
    recovery::leave();
    pause();
  });
  const process::Token its_life = process::last_fork();
  int status = 0;
  CHECK(waitpid(stopped, &status, WUNTRACED) == stopped && WIFSTOPPED(status));
  const process::Token dead = somebody_who_died_with_objects();
  sync::Wait wait = within(30 * kMillisecond);
  CHECK(!recovery::recover_life(dead, wait));
  CHECK_EQUAL(objects_in_use(), kObjects);
  kill(stopped, then);
  wait = within(20 * kSecond);
  CHECK(recovery::recover_life(dead, wait));
  CHECK_EQUAL(objects_in_use(), 0);
  end(stopped, SIGKILL);
  CHECK(recovery::recover_life(its_life, wait));
}

// The out-of-memory reaper can free the list of a thread's mutexes before the kernel has walked it: they stay locked by nobody.
void one_who_died_without_a_mark_is_found_out() {
  shared->ready = 0;
  const pid_t reaped = stranger([] {
    recovery::enter();
    robust_list_head nothing = {{&nothing.list}, 0, nullptr};
    CHECK(syscall(SYS_set_robust_list, &nothing, sizeof nothing) == 0);
    kill(getpid(), SIGKILL);
  });
  const process::Token its_life = process::last_fork();
  end(reaped, 0);
  sync::Wait wait = within(30 * kMillisecond);
  CHECK(recovery::recover_life(its_life, wait));
  recovery::enter();  // whole again
  recovery::leave();
}

}  // namespace

int main() {
  prepare(100);
  whoever_finds_the_slot_free_finds_nothing_left();
  check_nothing_left();
  all_who_ask_at_once_are_told_when_it_is_done();
  check_nothing_left();
  who_lives_is_not_recovered();
  for (const int then : {SIGCONT, SIGKILL}) one_who_is_stopped_is_not_waited_for_without_end(then);
  one_who_died_without_a_mark_is_found_out();
  check_nothing_left();
  std::puts("recovery_test: all good");
}
