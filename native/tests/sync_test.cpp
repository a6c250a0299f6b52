// What the synchronisation objects do, with threads over one arena.
#include <sched.h>

#include "sync/company.hpp"
#include "sync_support.hpp"

using namespace shoal;
using sync::Acquired;
using sync::Obtained;
using sync::Passed;
using sync::Waited;
using namespace shoal::test;

namespace {

void lock_excludes() {
  auto lock = make_lock();
  uint64_t counter = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([&] {
      for (int k = 0; k < 20'000; ++k) {
        sync::Wait wait;
        CHECK(sync::acquire(*lock.body, lock.index, wait) == Acquired::kYes);
        ++counter;
        CHECK(sync::release(*lock.body));
      }
    });
  for (std::thread& t : threads) t.join();
  CHECK(counter == 80'000);
  CHECK(!sync::is_locked(*lock.body) && !sync::release(*lock.body));
}

void lock_times_out() {
  auto lock = make_lock();
  sync::Wait now = within(0), soon = within(20 * kMillisecond);
  CHECK(sync::acquire(*lock.body, lock.index, now) == Acquired::kYes);
  CHECK(sync::is_mine(*lock.body));
  CHECK(sync::acquire(*lock.body, lock.index, now) == Acquired::kTimeout);
  CHECK(sync::acquire(*lock.body, lock.index, soon) == Acquired::kTimeout);
  std::thread([&] {
    CHECK(!sync::is_mine(*lock.body) && sync::is_held_here(*lock.body) && sync::release(*lock.body));
  }).join();
}

void rlock_counts() {
  auto lock = make_lock(object::Kind::kRLock);
  sync::Wait wait = within(0);
  for (int i = 0; i < 3; ++i) CHECK(sync::acquire_again(*lock.body, lock.index, wait) == Acquired::kYes);
  std::thread([&] {
    CHECK(sync::acquire_again(*lock.body, lock.index, wait) == Acquired::kTimeout && !sync::release_once(*lock.body));
  }).join();
  end(child([&] { CHECK(!sync::is_mine(*lock.body) && !sync::release_once(*lock.body)); }), 0);
  for (int i = 0; i < 3; ++i) CHECK(sync::release_once(*lock.body));
  CHECK(!sync::release_once(*lock.body) && !sync::is_locked(*lock.body));
}

void semaphore_counts() {
  auto semaphore = make_semaphore(2, 2);
  sync::Wait now = within(0), soon = within(20 * kMillisecond);
  uint32_t permit = 0;
  CHECK(sync::acquire(*semaphore.body, semaphore.index, now) == Obtained::kYes);
  CHECK(sync::acquire_permit(*semaphore.body, semaphore.index, now, permit) == Obtained::kYes);
  CHECK(sync::acquire(*semaphore.body, semaphore.index, now) == Obtained::kTimeout);
  CHECK(sync::acquire(*semaphore.body, semaphore.index, soon) == Obtained::kTimeout);
  CHECK(sync::release(*semaphore.body) && sync::release_permit(*semaphore.body, permit));
  CHECK(!sync::release(*semaphore.body) && sync::value_of(*semaphore.body) == 2);
}

void semaphore_passes_between_threads() {
  auto there = make_semaphore(0, sync::kSemaphoreMost), back = make_semaphore(0, sync::kSemaphoreMost);
  std::thread other([&] {
    for (int i = 0; i < 5'000; ++i) {
      sync::Wait wait;
      CHECK(sync::acquire(*there.body, there.index, wait) == Obtained::kYes && sync::release(*back.body));
    }
  });
  for (int i = 0; i < 5'000; ++i) {
    sync::Wait wait;
    CHECK(sync::release(*there.body) && sync::acquire(*back.body, back.index, wait) == Obtained::kYes);
  }
  other.join();
}

void event_set_and_cleared_at_once_releases_all() {
  auto event = make_event();
  for (int round = 0; round < 50; ++round) {
    shared->counter = 0;
    std::vector<std::thread> threads;
    for (int i = 0; i < 3; ++i)
      threads.emplace_back([&] {
        sync::Wait wait = within(5 * kSecond);
        shared->counter.fetch_add(1);
        CHECK(sync::wait(*event.body, event.index, wait) == Waited::kYes);
      });
    until([] { return shared->counter == 3; });
    usleep(static_cast<useconds_t>(2'000));  // all of them are in the wait now, spinning or asleep
    sync::set(*event.body);
    sync::clear(*event.body);
    for (std::thread& t : threads) t.join();
  }
  sync::Wait soon = within(kMillisecond);
  CHECK(sync::wait(*event.body, event.index, soon) == Waited::kTimeout);
  sync::set(*event.body);
  CHECK(sync::wait(*event.body, event.index, soon) == Waited::kYes);
}

void notify_reaches_the_oldest(uint32_t count) {
  auto waiters = make_waiters();
  std::vector<sync::Waiter> waiting(count);
  for (sync::Waiter& w : waiting) CHECK(sync::enter(*waiters.body, waiters.index, w));
  CHECK(sync::count_waiters(*waiters.body, waiters.index) == count);
  sync::leave(*waiters.body, waiters.index, waiting[1], false);
  CHECK(sync::notify(*waiters.body, waiters.index, 2) == 2);  // the first and the third
  for (uint32_t i = 0; i < count; ++i) {
    if (i == 1) continue;
    sync::Wait now = within(0);
    CHECK(sync::sleep(waiting[i], now) == (i == 0 || i == 2 ? Waited::kYes : Waited::kTimeout));
    sync::leave(*waiters.body, waiters.index, waiting[i], true);
  }
  CHECK(sync::notify(*waiters.body, waiters.index, 1) == 0 && sync::count_waiters(*waiters.body, waiters.index) == 0);
}

// A notification that its waiter does not heed goes to the next one; unless all were told, and whoever came later was not meant.
void unheeded_notification_goes_to_the_next(uint32_t most) {
  auto waiters = make_waiters();
  sync::Waiter first, next;
  CHECK(sync::enter(*waiters.body, waiters.index, first));
  CHECK(sync::notify(*waiters.body, waiters.index, most) == 1);
  CHECK(sync::enter(*waiters.body, waiters.index, next));
  sync::leave(*waiters.body, waiters.index, first, false);
  sync::Wait now = within(0);
  CHECK(sync::sleep(next, now) == (most == sync::kEverybody ? Waited::kTimeout : Waited::kYes));
  sync::leave(*waiters.body, waiters.index, next, true);
  CHECK(sync::count_waiters(*waiters.body, waiters.index) == 0);
}

void barrier_separates_generations() {
  auto barrier = make_barrier(3);
  std::atomic<uint32_t> arrived{0}, indices{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; ++i)
    threads.emplace_back([&] {
      for (uint32_t round = 1; round <= 2'000; ++round) {
        sync::Wait wait = within(10 * kSecond);
        sync::Party party;
        arrived.fetch_add(1);
        Passed how = sync::arrive(*barrier.body, barrier.index, round % 2 == 0, party, wait);
        if (how == Passed::kMustAct) {
          CHECK(arrived == 3 * round);
          how = sync::finish(*barrier.body, party, true);
        }
        CHECK(how == Passed::kPassed && arrived >= 3 * round);
        indices.fetch_add(party.index);
      }
    });
  for (std::thread& t : threads) t.join();
  CHECK(indices == 3 * 2'000 && sync::count_waiting(*barrier.body) == 0);
}

void barrier_breaks_and_is_reset() {
  auto barrier = make_barrier(2);
  sync::Party party;
  sync::Wait soon = within(5 * kMillisecond);
  CHECK(sync::arrive(*barrier.body, barrier.index, false, party, soon) == Passed::kBroken &&
        sync::is_broken(*barrier.body));
  sync::reset(*barrier.body);
  CHECK(!sync::is_broken(*barrier.body));
  std::thread waiter([&] {
    sync::Wait wait;
    sync::Party p;
    CHECK(sync::arrive(*barrier.body, barrier.index, false, p, wait) == Passed::kBroken);
  });
  until([&] { return sync::count_waiting(*barrier.body) == 1; });
  sync::reset(*barrier.body);
  waiter.join();
  CHECK(!sync::is_broken(*barrier.body) && sync::count_waiting(*barrier.body) == 0);
}

void nobody_spins_for_those_on_its_own_core() {
  std::thread([] {
    cpu_set_t here;
    CPU_ZERO(&here);
    CPU_SET(sched_getcpu(), &here);
    CHECK(sched_setaffinity(0, sizeof here, &here) == 0);
    sync::Side mine, other;
    sync::Company company{.mine = &mine};
    uint32_t looks = 0;
    const auto third_look = [&] { return ++looks == 3; };
    sync::leave_word(other);
    CHECK(!sync::spin_for(other, company, third_look) && looks == 0);
    other.stay_awake = 1;  // unless it is asked to
    CHECK(sync::spin_for(other, company, third_look) == (arena::header().cores > 1));
    other.stay_awake = 0;
    // It may ask the other side, now and then; and never leaves it asked.
    for (uint32_t i = 0; i < 4 * sync::kOftenTogether; ++i) {
      CHECK(!sync::spin_for(other, company, [] { return false; }));
      CHECK(mine.stay_awake == 0);
    }
    company.until = company.began = os::now();  // in the midst of an attempt
    mine.stay_awake = 1;
    sync::leave(company);
    CHECK(mine.stay_awake == 0 && company.until == 0);
    other.seen_on = 0;
    looks = 0;
    CHECK(sync::spin_for(other, company, third_look) == (arena::header().cores > 1));
  }).join();
}

}  // namespace

int main() {
  prepare(60);
  lock_excludes();
  lock_times_out();
  rlock_counts();
  semaphore_counts();
  semaphore_passes_between_threads();
  event_set_and_cleared_at_once_releases_all();
  notify_reaches_the_oldest(3);
  unheeded_notification_goes_to_the_next(1);
  unheeded_notification_goes_to_the_next(sync::kEverybody);
  notify_reaches_the_oldest(200);  // more than there are places
  barrier_separates_generations();
  barrier_breaks_and_is_reset();
  nobody_spins_for_those_on_its_own_core();
  CHECK(nodes_in_use() == 0);
  std::puts("sync_test: all good");
}
