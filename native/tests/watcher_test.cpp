// The watcher's program: it recovers the killed, ends daemons, leaves with the last process, takes away the named memory, and can be replaced. Each case is a tree of its own: the root is
// a forked child of this program, which has no arena.
#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/prctl.h>

#include <string>

#include "core_support.hpp"
#include "names/names.hpp"

extern char** environ;

using namespace shoal;
using channel::Result;
using namespace shoal::test;

namespace {

constexpr uint64_t kSoon = (SHOAL_SANITIZED == 1 ? 1 : 5) * kSecond;

struct Report {  // by the root, to this program and to its children
  std::atomic<int32_t> watcher, child, grandchild, other;
  std::atomic<uint32_t> ready, beats;
};
Report* report = nullptr;

void spawn_watcher() {
  char number[16], path[] = SHOAL_WATCHER_PATH, detach[] = "--detach";
  std::snprintf(number, sizeof number, "%d", arena::descriptor());
  char* argv[] = {path, detach, number, nullptr};
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, arena::descriptor(), arena::descriptor());  // takes close-on-exec off
  pid_t pid = 0;
  CHECK(posix_spawn(&pid, path, &actions, nullptr, argv, environ) == 0);
  posix_spawn_file_actions_destroy(&actions);
  finish(pid);
}

// The program beside the watcher: its child, which nobody reaps but the watcher.
pid_t stand_by_of(pid_t watcher) {
  char path[64];
  std::snprintf(path, sizeof path, "/proc/%d/task/%d/children", watcher, watcher);
  FILE* f = std::fopen(path, "re");
  int pid = 0;
  if (f == nullptr) return 0;
  if (std::fscanf(f, "%d", &pid) != 1) pid = 0;
  std::fclose(f);
  return pid != 0 && !os::process_is_gone(pid, 0) ? pid : 0;
}

pid_t await_watcher(pid_t before) {
  until([&] { return process::watcher() != before && process::watcher() != 0; });
  until([&] { return stand_by_of(process::watcher()) != 0; });
  return report->watcher = process::watcher();
}

pid_t start_watcher() {
  CHECK(process::watcher() == 0);
  spawn_watcher();
  return await_watcher(0);
}

void kill_watcher() {
  const pid_t pid = process::watcher();
  CHECK(pid > 1 && pid == report->watcher);
  CHECK(kill(pid, SIGKILL) == 0);
}

// True: the process has ended before `limit` nanoseconds have passed.
bool ends_within(pid_t pid, uint64_t limit) {
  const uint64_t end = os::now() + limit;
  while (!os::process_is_gone(pid, 0)) {
    if (os::now() > end) return false;
    usleep(1'000);
  }
  return true;
}

// A sleeper that only recovery can help: the permit it waits for belongs to the killed.
void permit_of_the_killed_wakes_a_sleeper(pid_t (*before_kill)(), void (*after_kill)()) {
  auto semaphore = make_semaphore(1, 1);
  shared->ready = 0;
  const pid_t holder = child([&] {
    sync::Wait wait;
    uint32_t permit = 0;
    CHECK(sync::acquire_permit(*semaphore.body, semaphore.index, wait, permit) == sync::Obtained::kYes);
    shared->ready = 1;
    pause();
  });
  until([] { return shared->ready == 1; });
  before_kill();
  std::thread sleeper([&] {
    sync::Wait wait = within(20 * kSecond);
    uint32_t permit = 0;
    CHECK(sync::acquire_permit(*semaphore.body, semaphore.index, wait, permit) == sync::Obtained::kYes);
    shared->ready = 2;
    CHECK(sync::release_permit(*semaphore.body, permit));
  });
  until([] { return sleepers() == 1; });
  CHECK(kill(holder, SIGKILL) == 0);
  after_kill();
  const uint64_t killed = os::now();
  until([] { return shared->ready == 2; });
  CHECK(os::now() - killed < kSoon);
  sleeper.join();
  end(holder, 0);
}

void sleeper_is_woken() {
  prepare(60);
  start_watcher();
  permit_of_the_killed_wakes_a_sleeper([] { return 0; }, [] {});
  // A joinable queue's consumer.
  Channel c({.flags = channel::kJoinable});
  CHECK(put(c.index, 0, 8, {}) == Result::kDone);
  shared->ready = 0;
  const pid_t consumer = child([&] {
    CHECK(get(c.index, {}).result == Result::kDone);
    shared->ready = 1;
    pause();
  });
  until([] { return shared->ready == 1; });
  std::thread killer([&] {
    until([] { return sleepers() == 1; });
    CHECK(kill(consumer, SIGKILL) == 0);
  });
  sync::Wait wait = within(10 * kSecond);
  CHECK(channel::join(c.index, wait) == Result::kDone);
  killer.join();
  end(consumer, 0);
  until([] { return slots_in_use() == 2; });  // this process and the watcher
}

void exec_ends_a_process() {
  prepare(60);
  start_watcher();
  auto lock = make_lock();
  shared->ready = 0;
  const pid_t holder = child([&] {
    sync::Wait wait;
    CHECK(sync::acquire(*lock.body, lock.index, wait) == sync::Acquired::kYes);
    shared->ready = 1;
    execlp("sleep", "sleep", "30", nullptr);
  });
  until([] { return shared->ready == 1; });
  sync::Wait wait = within(10 * kSecond);
  CHECK(sync::acquire(*lock.body, lock.index, wait) == sync::Acquired::kAbandoned);
  CHECK(!os::process_is_gone(holder, 0));
  end(holder, SIGKILL);
  CHECK(sync::release(*lock.body));
}

// What it had started ends with the killed; what was not to be, lives on.
void daemons_end_with_their_parent() {
  prepare(60);
  start_watcher();
  const pid_t parent = child([] {
    process::set_fork_flags(process::kDaemon);
    report->child = child([] {
      process::set_fork_flags(process::kDaemon);
      report->grandchild = child([] { pause(); });
      report->ready.fetch_add(1);
      pause();
    });
    report->other = child([] { pause(); });
    report->ready.fetch_add(1);
    pause();
  });
  until([] { return report->ready == 2; });
  CHECK(kill(parent, SIGKILL) == 0);
  CHECK(ends_within(report->child, kSoon));
  CHECK(ends_within(report->grandchild, kSoon));
  CHECK(!ends_within(report->other, 50 * kMillisecond));
  CHECK(kill(report->other, SIGKILL) == 0);
  end(parent, 0);
}

void killed_watcher_is_replaced() {
  prepare(60);
  const pid_t first = start_watcher();
  kill_watcher();
  const pid_t second = await_watcher(first);
  permit_of_the_killed_wakes_a_sleeper([] { return 0; }, [] {});
  // The next one recovers who was killed while there was none.
  permit_of_the_killed_wakes_a_sleeper(
      []() -> pid_t {
        kill_watcher();
        return 0;
      },
      [] {});
  const pid_t third = await_watcher(second);
  CHECK(first != second && second != third && third != first);
  until([] { return slots_in_use() == 2; });
}

void killed_stand_by_is_replaced() {
  prepare(60);
  const pid_t watcher = start_watcher();
  pid_t before = 0;
  for (int i = 0; i < 3; ++i) {
    until([&] { return stand_by_of(watcher) != before && stand_by_of(watcher) != 0; });
    before = stand_by_of(watcher);
    CHECK(kill(before, SIGKILL) == 0);
  }
  until([&] { return stand_by_of(watcher) != before && stand_by_of(watcher) != 0; });
  kill_watcher();
  await_watcher(watcher);
}

void kill_both() {
  const pid_t watcher = start_watcher(), other = stand_by_of(watcher);
  CHECK(kill(other, SIGSTOP) == 0 && kill(watcher, SIGKILL) == 0 && kill(other, SIGKILL) == 0);
  until([] { return process::watcher() == 0; });
}

// Both at once: the next process that starts one finds none.
void both_killed_are_replaced() {
  prepare(60);
  kill_both();
  start_watcher();
  permit_of_the_killed_wakes_a_sleeper([] { return 0; }, [] {});
}

[[noreturn]] void beat() {
  for (;;) {
    report->beats.fetch_add(1);
    usleep(1'000);
  }
}

// Of a thread that ends: by then the kernel has told its children.
void in_a_thread(void (*work)()) {
  std::atomic<pid_t> id{0};
  std::thread([&] {
    id = os::thread_id();
    work();
  }).join();
  until([&] { return access(("/proc/self/task/" + std::to_string(id)).c_str(), F_OK) != 0; });
}

void check_alive() {
  const uint32_t before = report->beats;
  until([&] { return report->beats >= before + 20; });
}

// What is to end with its parent does so without a watcher, and what is not lives on; but not with the thread that has forked it.
void dependents_need_no_watcher() {
  prepare(60);
  const pid_t parent = child([] {
    in_a_thread([] {
      process::set_fork_flags(process::kDieWithParent);
      report->child = child([] {
        process::set_fork_flags(process::kDaemon);
        report->grandchild = child([] { pause(); });
        report->ready.fetch_add(1);
        beat();
      });
    });
    until([] { return report->ready == 1; });
    check_alive();
    report->other = child([] { pause(); });
    report->ready.fetch_add(1);
    pause();
  });
  until([] { return report->ready == 2; });
  kill_both();
  CHECK(kill(parent, SIGKILL) == 0);
  CHECK(ends_within(report->child, 2 * kSoon));
  CHECK(ends_within(report->grandchild, 2 * kSoon));
  CHECK(!ends_within(report->other, 50 * kMillisecond));
  CHECK(kill(report->other, SIGKILL) == 0);
  end(parent, 0);
  start_watcher();
}

// A child that has become another program asks the kernel still, and has no handler any more.
void thread_ends_no_program() {
  prepare(60);
  static int line[2];
  CHECK(pipe2(line, O_CLOEXEC) == 0);
  in_a_thread([] {
    process::set_fork_flags(process::kDieWithParent);
    report->child = child([] {
      dup2(line[0], STDIN_FILENO);
      execlp("sh", "sh", "-c", "read word; exit 7", nullptr);
    });
    const uint32_t slot = process::slot_of(process::last_fork());
    until([slot] { return process::token_says_dead(slot); });  // exec marks it
  });
  start_watcher();
  CHECK(write(line[1], "go\n", 3) == 3);
  int status = 0;
  CHECK(waitpid(report->child, &status, 0) == report->child);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 7);
}

// The root makes it, a child outlives the root: it is there as long as one of the tree is, and goes with the last.
std::string named_path(int root) { return "/dev/shm/shoal-test-watcher-" + std::to_string(root); }

void named_memory_goes_with_the_tree() {
  prepare(60);
  start_watcher();
  const int fd = open("/dev/shm", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  CHECK(fd >= 0 && names::link(fd, named_path(getpid()).substr(9).c_str()) == arena::Status::kOk);
  report->other = getpid();
  report->child = child([root = getpid()] {
    while (!os::process_is_gone(root, 0)) usleep(1'000);
    usleep(50'000);  // what was to be taken away too early would be gone by then
    CHECK(access(named_path(root).c_str(), F_OK) == 0);
    report->ready = 1;
  });
}

void check_named_memory_has_gone() {
  CHECK_EQUAL(report->ready.load(), 1);
  CHECK(access(named_path(report->other).c_str(), F_OK) != 0);
}

void one_watcher_is_enough() {
  prepare(60);
  const pid_t first = start_watcher();
  for (int i = 0; i < 5; ++i) spawn_watcher();
  usleep(100'000);
  CHECK_EQUAL(process::watcher(), first);
  CHECK_EQUAL(slots_in_use(), 2);
}

// Runs a tree to its end, then looks whether its watcher leaves by itself.
void in_a_tree_of_its_own(const char* name, void (*test)(), bool root_is_killed) {
  report->watcher = 0;
  report->ready = 0;
  const pid_t root = fork();
  CHECK(root >= 0);
  if (root == 0) {
    test();
    if (root_is_killed) kill(getpid(), SIGKILL);
    process::leave(0, true);
    std::_Exit(0);
  }
  int status = 1;
  CHECK(waitpid(root, &status, 0) == root);
  const bool good = root_is_killed ? WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL : status == 0;
  if (!good) std::fprintf(stderr, "watcher_test: %s failed (status %d)\n", name, status);
  if (good && !ends_within(report->watcher, 10 * kSecond)) {
    std::fprintf(stderr, "watcher_test: the watcher of %s did not leave\n", name);
    status = -1;
  }
  while (waitpid(-1, nullptr, WNOHANG) > 0) {  // orphans of the tree, and its watcher
  }
  if (!good || status == -1) std::_Exit(1);
}

}  // namespace

#define RUN(test, root_is_killed) in_a_tree_of_its_own(#test, test, root_is_killed)

int main() {
  alarm(100);
  prctl(PR_SET_CHILD_SUBREAPER, 1);
  report = shared_memory<Report>();
  RUN(sleeper_is_woken, false);
  RUN(sleeper_is_woken, true);
  RUN(exec_ends_a_process, false);
  RUN(daemons_end_with_their_parent, false);
  RUN(daemons_end_with_their_parent, true);
  RUN(killed_watcher_is_replaced, true);
  RUN(killed_stand_by_is_replaced, false);
  RUN(both_killed_are_replaced, true);
  RUN(dependents_need_no_watcher, false);
  RUN(dependents_need_no_watcher, true);
  RUN(thread_ends_no_program, false);
  RUN(one_watcher_is_enough, false);
  RUN(named_memory_goes_with_the_tree, false);
  check_named_memory_has_gone();
  RUN(named_memory_goes_with_the_tree, true);
  check_named_memory_has_gone();
  std::puts("watcher_test: all good");
}
