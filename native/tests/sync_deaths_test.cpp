// What killed and departed processes leave behind in the synchronisation objects. The test plays the watcher's part, and in some cases nobody does.
#include "sync_support.hpp"

using namespace shoal;
using sync::Acquired;
using sync::Obtained;
using sync::Passed;
using sync::Waited;
using namespace shoal::test;

namespace {

// Nobody recovers: who waits learns of the death from the token.
void killed_holder_is_succeeded(object::Kind kind, int signal, Acquired expected) {
  auto lock = make_lock(kind);
  shared->ready = 0;
  const pid_t holder = child([&] {
    sync::Wait wait;
    CHECK(sync::acquire_again(*lock.body, lock.index, wait) == Acquired::kYes);
    shared->ready = 1;
    if (signal == 0) {
      process::leave(0, true);
      std::_Exit(0);
    }
    pause();
  });
  until([] { return shared->ready == 1; });
  Acquired how = Acquired::kTimeout;
  std::thread waiter([&] {
    sync::Wait wait = within(kSecond);
    how = sync::acquire(*lock.body, lock.index, wait);
  });
  if (signal != 0) until([&] { return (lock.body->word & sync::kWaiters) != 0; });
  end(holder, signal);
  waiter.join();
  CHECK(how == expected);
  CHECK(sync::is_locked(*lock.body));
  recovery::recover_all();
  CHECK(sync::release(*lock.body));
}

void recovered_lock_tells_the_next() {
  auto lock = make_lock();
  sync::Wait wait = within(0);
  end(child([&] {
        sync::acquire(*lock.body, lock.index, wait);
        kill(getpid(), SIGKILL);
      }),
      0);
  CHECK(recovery::recover_all() == 1);
  CHECK(!sync::is_locked(*lock.body));
  CHECK(sync::acquire(*lock.body, lock.index, wait) == Acquired::kAbandoned);
  CHECK(sync::release(*lock.body));
  CHECK(sync::acquire(*lock.body, lock.index, wait) == Acquired::kYes);
  CHECK(sync::release(*lock.body));
}

void notify_skips_the_dead() {
  auto waiters = make_waiters();
  shared->ready = 0;
  const auto wait_in_child = [&] {
    return child([&] {
      sync::Waiter w;
      sync::Wait wait;
      CHECK(sync::enter(*waiters.body, waiters.index, w));
      shared->ready.fetch_add(1);
      CHECK(sync::sleep(w, wait) == Waited::kYes);
      sync::leave(*waiters.body, waiters.index, w, true);
    });
  };
  const pid_t first = wait_in_child();
  until([] { return shared->ready == 1; });
  const pid_t second = wait_in_child();
  until([] { return shared->ready == 2; });
  end(first, SIGKILL);
  CHECK(sync::notify(*waiters.body, waiters.index, 1) == 1);  // before anyone has recovered the first
  end(second, 0);
  CHECK(recovery::recover_all() == 2);
  CHECK(sync::count_waiters(*waiters.body, waiters.index) == 0);
}

// Of two waiters the first is notified, and killed before it has the lock back: the second goes on in its place.
void notification_of_the_dead_goes_to_the_next() {
  auto waiters = make_waiters();
  shared->ready = 0;
  const auto wait_in_child = [&](bool stays) {
    return child([&, stays] {
      sync::Waiter w;
      sync::Wait wait;
      CHECK(sync::enter(*waiters.body, waiters.index, w));
      shared->ready.fetch_add(1);
      CHECK(sync::sleep(w, wait) == Waited::kYes);
      shared->ready.fetch_add(1);
      while (stays) pause();
      sync::leave(*waiters.body, waiters.index, w, true);
    });
  };
  const pid_t first = wait_in_child(true);
  until([] { return shared->ready == 1; });
  const pid_t second = wait_in_child(false);
  until([] { return shared->ready == 2; });
  CHECK(sync::notify(*waiters.body, waiters.index, 1) == 1);
  until([] { return shared->ready == 3; });
  CHECK(sync::count_waiters(*waiters.body, waiters.index) == 1);
  end(first, SIGKILL);
  const uint32_t recovered = recovery::recover_all();  // the second may have come to its end in the middle of this
  end(second, 0);
  CHECK(recovered + recovery::recover_all() == 2);
  CHECK(sync::count_waiters(*waiters.body, waiters.index) == 0);
}

void dead_party_breaks_the_barrier(bool while_acting) {
  auto barrier = make_barrier(while_acting ? 2 : 3);
  shared->ready = 0;
  const auto party_in_child = [&] {
    return child([&] {
      sync::Wait wait;
      sync::Party p;
      const Passed how = sync::arrive(*barrier.body, barrier.index, while_acting, p, wait);
      if (how == Passed::kMustAct) {
        shared->ready = 1;
        pause();
      }
      CHECK(how == Passed::kBroken);
    });
  };
  const pid_t first = party_in_child();
  until([&] { return sync::count_waiting(*barrier.body) == 1; });
  const pid_t last = party_in_child();
  until([&] { return while_acting ? shared->ready == 1 : sync::count_waiting(*barrier.body) == 2; });
  end(last, SIGKILL);
  until([] { return recovery::recover_all() >= 1; });
  int status = 1;
  CHECK(waitpid(first, &status, 0) == first && status == 0 && sync::is_broken(*barrier.body));
  until([] { return recovery::recover_all() == 1; });
}

// Processes that are killed at any moment, in any state; a fresh one takes each one's place. `work(i)` is one round.
template <class Work>
void soak(uint32_t processes, uint32_t kills, Work work) {
  std::vector<pid_t> pids(processes);
  const auto start = [&](uint32_t i) {
    pids[i] = child([&] {
      srand(static_cast<unsigned>(getpid()));
      for (;;) {
        work(i);
        shared->progress[i].fetch_add(1);
      }
    });
  };
  for (uint32_t i = 0; i < processes; ++i) start(i);
  for (uint32_t k = 0; k < kills; ++k) {
    usleep(static_cast<useconds_t>(rand() % 2'000));
    const uint32_t i = static_cast<uint32_t>(rand()) % processes;
    end(pids[i], SIGKILL);
    until([] { return recovery::recover_all() == 1; });
    start(i);
    if (k % 16 != 0) continue;
    for (uint32_t p = 0; p < processes; ++p) {  // everybody gets on
      const uint64_t before = shared->progress[p];
      until([&] { return shared->progress[p] != before; });
    }
  }
  for (pid_t pid : pids) end(pid, SIGKILL);
  CHECK(recovery::recover_all() == processes);
}

void idle(int most) {
  for (volatile int k = rand() % most; k > 0;) k = k - 1;
  if (rand() % 500 == 0) usleep(300);
}

void lock_survives_kills(object::Kind kind) {
  auto lock = make_lock(kind);
  soak(5, 300, [&](uint32_t) {
    sync::Wait wait = rand() % 3 == 0 ? within(100'000) : sync::Wait{};
    const Acquired how = sync::acquire_again(*lock.body, lock.index, wait);
    if (how == Acquired::kTimeout) return;
    if (how == Acquired::kAbandoned) shared->inside = 0;
    CHECK(shared->inside.fetch_add(1) == 0);
    idle(300);
    CHECK(shared->inside.fetch_sub(1) == 1);
    CHECK(sync::release_once(*lock.body));
    idle(300);
  });
  sync::Wait wait = within(kSecond);
  const Acquired how = sync::acquire(*lock.body, lock.index, wait);
  CHECK(how == Acquired::kYes || how == Acquired::kAbandoned);
  shared->inside = 0;
  CHECK(sync::release(*lock.body));
}

void permits_of_the_killed_come_back() {
  auto semaphore = make_semaphore(3, 3);
  soak(5, 300, [&](uint32_t) {
    sync::Wait wait = rand() % 3 == 0 ? within(100'000) : sync::Wait{};
    uint32_t permit = 0;
    if (sync::acquire_permit(*semaphore.body, semaphore.index, wait, permit) != Obtained::kYes) return;
    idle(300);
    CHECK(sync::release_permit(*semaphore.body, permit));
    idle(300);
  });
  CHECK(sync::value_of(*semaphore.body) == 3);
}

void conditions_survive_kills() {
  auto lock = make_lock();
  auto waiters = make_waiters();
  soak(5, 200, [&](uint32_t) {
    sync::Wait wait;
    sync::acquire(*lock.body, lock.index, wait);
    sync::Waiter waiter;
    const bool waits = rand() % 2 == 0 && sync::enter(*waiters.body, waiters.index, waiter);
    if (!waits) sync::notify(*waiters.body, waiters.index, 1 + static_cast<uint32_t>(rand()) % 3);
    CHECK(sync::release(*lock.body));
    if (waits) {
      sync::Wait soon = within(2 * kMillisecond);
      sync::sleep(waiter, soon);
      sync::acquire(*lock.body, lock.index, wait);
      sync::leave(*waiters.body, waiters.index, waiter, true);
      CHECK(sync::release(*lock.body));
    }
  });
  CHECK(sync::count_waiters(*waiters.body, waiters.index) == 0);
}

void barriers_survive_kills() {
  auto barrier = make_barrier(3);
  soak(3, 200, [&](uint32_t) {
    sync::Wait wait;
    sync::Party party;
    Passed how = sync::arrive(*barrier.body, barrier.index, rand() % 2 == 0, party, wait);
    if (how == Passed::kMustAct) {
      idle(300);
      how = sync::finish(*barrier.body, party, rand() % 10 != 0);
    }
    if (how == Passed::kBroken) sync::reset(*barrier.body);
  });
}

}  // namespace

int main() {
  prepare(240);
  killed_holder_is_succeeded(object::Kind::kLock, SIGKILL, Acquired::kAbandoned);
  killed_holder_is_succeeded(object::Kind::kRLock, SIGKILL, Acquired::kAbandoned);
  killed_holder_is_succeeded(object::Kind::kRLock, 0, Acquired::kAbandoned);
  killed_holder_is_succeeded(object::Kind::kLock, 0, Acquired::kTimeout);
  recovered_lock_tells_the_next();
  notify_skips_the_dead();
  notification_of_the_dead_goes_to_the_next();
  dead_party_breaks_the_barrier(false);
  dead_party_breaks_the_barrier(true);
  lock_survives_kills(object::Kind::kLock);
  lock_survives_kills(object::Kind::kRLock);
  permits_of_the_killed_come_back();
  conditions_survive_kills();
  barriers_survive_kills();
  CHECK(nodes_in_use() == 0);
  std::puts("sync_deaths_test: all good");
}
