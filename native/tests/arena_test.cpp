// The arena at its limits: quota, memory given back, a lost descriptor, too little address space, tables that grow. Each case has an arena of its own, in a
// process of its own.
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "core_support.hpp"

using namespace shoal;
using arena::Status;
using channel::Result;
using namespace shoal::test;

namespace {

constexpr uint64_t kQuota = 32 * arena::kMiB;

void start_arena(uint64_t quota) {
  CHECK(arena::create(quota) == Status::kOk);
  recovery::init();
  process::watch_forks();
  CHECK(process::claim(0));
}

std::vector<blob::Name> fill_with_blobs(uint64_t bytes, Status& last) {
  std::vector<blob::Name> names;
  for (;;) {
    blob::Name name;
    last = blob::allocate(bytes, 0, name);
    if (last != Status::kOk) return names;
    std::memset(blob::payload(blob::head(name)), 1, bytes);
    names.push_back(name);
  }
}
void free_blobs(const std::vector<blob::Name>& names) {
  for (blob::Name name : names) CHECK(blob::free_owned(name, process::mine()));
}
void check_failure_has_figures(uint64_t quota) {
  const arena::Failure& f = arena::last_failure();
  CHECK_EQUAL(f.quota, quota);
  CHECK(f.wanted > 0 && f.used > 0 && f.used <= f.quota && f.wanted + f.used > f.quota);
}

void quota_is_an_error_with_figures() {
  start_arena(kQuota);
  Channel c;
  Status last = Status::kOk;
  std::vector<blob::Name> names = fill_with_blobs(arena::kMiB, last);
  CHECK(last == Status::kNoMemory);
  check_failure_has_figures(kQuota);
  CHECK(names.size() >= 20 && arena::bytes_in_use() <= kQuota);
  CHECK_EQUAL(blobs_in_use(), names.size());  // what failed has left nothing
  CHECK(put(c.index, 0, 2 * arena::kMiB, {}) == Result::kNoMemory);
  free_blobs(names);
  std::vector<blob::Name> again = fill_with_blobs(arena::kMiB, last);
  CHECK_EQUAL(again.size(), names.size());
  // Another size: the pages that free blobs keep are found for it.
  free_blobs(again);
  blob::Name large;
  CHECK(blob::allocate(20 * arena::kMiB, 0, large) == Status::kOk);
  CHECK(blob::free_owned(large, process::mine()));
  CHECK(blob::allocate(arena::blob_bytes(arena::kBlobClasses - 1), 0, large) ==
        Status::kNoMemory);  // larger than any class
  CHECK(put(c.index, 0, 100, {}) == Result::kDone && get(c.index, {}).result == Result::kDone);
}

void full_channel_is_an_error_and_loses_nothing() {
  start_arena(kQuota);
  Channel c;
  uint64_t n = 0;
  while (put(c.index, n, 8'000, {}) == Result::kDone) ++n;
  check_failure_has_figures(kQuota);
  CHECK(n > 1'000);
  CHECK_EQUAL(c.length(), n);
  CHECK(put(c.index, n, 8'000, {}) == Result::kNoMemory);
  for (uint64_t i = 0; i < n; ++i) CHECK_EQUAL(get(c.index, {}).tag, i);
  CHECK(get(c.index, within(0)).result == Result::kEmpty);
  CHECK(put(c.index, n, 8'000, {}) == Result::kDone && get(c.index, {}).tag == n);
}

void objects_at_the_quota_leave_nothing() {
  start_arena(kQuota);
  Status last = Status::kOk;
  // Segments first, so that the accounts of a joinable channel find no room while its cell does.
  std::vector<uint32_t> held;
  for (;;) {
    uint32_t index = 0, generation = 0;
    last = channel::create({.flags = channel::kJoinable}, index, generation);
    if (last != Status::kOk) break;
    held.push_back(index);
  }
  CHECK(last == Status::kNoMemory);
  const uint32_t objects = objects_in_use();
  CHECK_EQUAL(objects, held.size());
  CHECK_EQUAL(bits_without_object(), 0);
  for (uint32_t index : held) recovery::let_go(index);
  check_nothing_left();
  Channel again({.flags = channel::kJoinable});
}

void memory_is_given_back() {
  start_arena(256 * arena::kMiB);
  const uint64_t before = arena::bytes_in_use();
  Status last = Status::kOk;
  const auto some = [&](uint64_t bytes, int count) {
    std::vector<blob::Name> names(static_cast<size_t>(count));
    for (blob::Name& name : names) {
      CHECK(blob::allocate(bytes, 0, name) == Status::kOk);
      std::memset(blob::payload(blob::head(name)), 1, bytes);
    }
    free_blobs(names);
  };
  some(100'000, 50);  // kept for the next of their size
  const uint64_t kept = arena::header().kept;
  CHECK(kept >= 50 * 100'000 && arena::bytes_in_use() >= before + kept);
  for (int round = 0; round < 10; ++round) some(100'000, 50);
  CHECK(arena::bytes_in_use() <= before + 2 * kept);
  CHECK(blob::trim(UINT64_MAX) >= kept);
  CHECK_EQUAL(arena::header().kept.load(), 0);
  CHECK(arena::bytes_in_use() <= before + arena::kMiB);  // words of the tables
  some(64 * arena::kMiB, 1);                             // more than is kept: goes back at once
  CHECK(arena::bytes_in_use() <= before + arena::kMiB);
  // A trimmed blob works again, and its pages are fresh.
  blob::Name name;
  CHECK(blob::allocate(100'000, 0, name) == Status::kOk);
  CHECK_EQUAL(blob::payload(blob::head(name))[50'000], 0);
  CHECK(blob::free_owned(name, process::mine()));
  std::vector<blob::Name> most = fill_with_blobs(4 * arena::kMiB, last);
  CHECK(last == Status::kNoMemory && most.size() >= 50);
  free_blobs(most);
  CHECK(arena::bytes_in_use() <= before + 256 * arena::kMiB / 8 + 4 * arena::kMiB);
}

// Daemonising code closes all descriptors, and then opens its own.
void users_file_under_our_number_is_not_touched() {
  start_arena(kQuota);
  Channel c;
  auto lock = make_lock();
  CHECK(put(c.index, 0, 100, {}) == Result::kDone);
  blob::Name name;
  CHECK(blob::allocate(100'000, 0, name) == Status::kOk);
  const int ours = arena::descriptor();
  CHECK(close(ours) == 0);
  CHECK(arena::commit(arena::kBlobsAt, arena::kPage) == Status::kLostDescriptor);  // closed
  const int users = os::memfd("user");
  CHECK(users >= 0 && (users == ours || dup2(users, ours) == ours));
  std::string text(200'000, 'u');
  CHECK(write(ours, text.data(), text.size()) == static_cast<ssize_t>(text.size()));

  CHECK(arena::commit(arena::kBlobsAt, arena::kPage) == Status::kLostDescriptor);  // reused
  CHECK(arena::last_failure().error == EBADF);
  CHECK(arena::punch(0, 100'000) == Status::kLostDescriptor);
  errno = 0;
  CHECK(arena::cell(arena::kBlobsAt + 3 * arena::kBlobRegion, arena::kPage) == nullptr && errno == EBADF);
  blob::Name large;
  CHECK(blob::allocate(10 * arena::kMiB, 0, large) == Status::kLostDescriptor);
  CHECK(blob::free_owned(name, process::mine()));
  blob::trim(UINT64_MAX);
  sweep();
  // What is mapped works on.
  sync::Wait wait = within(kSecond);
  CHECK(sync::acquire(*lock.body, lock.index, wait) == sync::Acquired::kYes && sync::release(*lock.body));
  CHECK(get(c.index, within(0)).result == Result::kDone);
  CHECK(put(c.index, 1, 100, {}) == Result::kDone && get(c.index, {}).tag == 1);

  struct stat s;
  CHECK(fstat(ours, &s) == 0);
  CHECK_EQUAL(s.st_size, text.size());
  std::string now(text.size(), 0);
  CHECK(pread(ours, now.data(), now.size(), 0) == static_cast<ssize_t>(now.size()) && now == text);
}

uint64_t address_space() {
  FILE* f = std::fopen("/proc/self/statm", "r");
  unsigned long long pages = 0;
  CHECK(f != nullptr && std::fscanf(f, "%llu", &pages) == 1);
  std::fclose(f);
  return pages * static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
}
void limit_address_space(uint64_t more) {
  rlimit limit;
  CHECK(getrlimit(RLIMIT_AS, &limit) == 0);
  limit.rlim_cur = more == 0 ? limit.rlim_max : address_space() + more;
  CHECK(setrlimit(RLIMIT_AS, &limit) == 0);
}

void little_address_space_is_an_error() {
  start_arena(kQuota);
  Channel c;  // its cell is mapped, no segment is
  limit_address_space(arena::kMiB);
  CHECK(put(c.index, 0, 100, {}) == Result::kNoMemory);
  CHECK_EQUAL(arena::last_failure().error, ENOMEM);
  CHECK_EQUAL(segments_in_use(), 0);
  blob::Name name;
  CHECK(blob::allocate(100'000, 0, name) == Status::kSystem);
  CHECK_EQUAL(blobs_in_use(), 0);
  limit_address_space(0);
  CHECK(put(c.index, 0, 100, {}) == Result::kDone && put(c.index, 1, 100'000, {}) == Result::kDone);
  CHECK(get(c.index, {}).tag == 0 && get(c.index, {}).tag == 1);
}

// A receiver that cannot map what was sent says so, and the message stays.
void message_that_cannot_be_mapped_stays() {
  start_arena(kQuota);
  Channel c;
  shared->ready = 0;
  const pid_t receiver = child([&] {
    until([] { return shared->ready == 1; });
    limit_address_space(arena::kMiB);
    CHECK(get(c.index, within(0)).result == Result::kNoMemory);
    CHECK(put(c.index, 9, 100, {}) == Result::kNoMemory);
    limit_address_space(0);
    CHECK_EQUAL(get(c.index, within(0)).tag, 7);
  });
  CHECK(put(c.index, 7, 100, {}) == Result::kDone);
  shared->ready = 1;
  finish(receiver);
}

void arena_that_cannot_be_mapped_is_an_error() {
  limit_address_space(arena::kMiB);
  CHECK(arena::create(0) == Status::kSystem);
  CHECK(!arena::attached());
  limit_address_space(0);
  start_arena(kQuota);
  // Something that is no arena.
  const int other = os::memfd("other");
  CHECK(ftruncate(other, static_cast<off_t>(arena::kTablesEnd)) == 0);
  end(child([&] { CHECK(arena::attach(other) == Status::kSystem && !arena::attached()); }), 0);
}

void tables_grow() {
  start_arena(256 * arena::kMiB);
  std::vector<uint32_t> objects(20'000);
  for (uint32_t& index : objects) {
    CHECK(object::claim(object::Kind::kEvent, index) == Status::kOk);
    object::publish(index);
  }
  CHECK_EQUAL(objects_in_use(), objects.size());
  const uint32_t grown = arena::grown(arena::kObjectTable);
  for (uint32_t index : objects) recovery::let_go(index);
  CHECK_EQUAL(objects_in_use(), 0);
  for (uint32_t& index : objects) CHECK(object::claim(object::Kind::kEvent, index) == Status::kOk);
  CHECK_EQUAL(arena::grown(arena::kObjectTable), grown);  // used again
  for (uint32_t index : objects) object::publish(index);
  for (uint32_t index : objects) recovery::let_go(index);

  std::vector<uint32_t> nodes;
  for (uint32_t n = process::claim_node(process::NodeKind::kSleeper, 0); n != process::kNoNode;
       n = process::claim_node(process::NodeKind::kSleeper, 0))
    nodes.push_back(n);
  CHECK_EQUAL(nodes.size(), arena::kNodes);
  // Without a node left waiting still works.
  Channel c;
  std::thread consumer([&] { CHECK_EQUAL(get(c.index, within(20 * kSecond)).tag, 1); });
  usleep(20'000);
  CHECK(put(c.index, 1, 8, {}) == Result::kDone);
  consumer.join();
  for (uint32_t n : nodes) process::free_node(n);

  std::vector<blob::Name> blobs(1'000);
  for (blob::Name& name : blobs) CHECK(blob::allocate(100, 0, name) == Status::kOk);
  CHECK_EQUAL(blobs_in_use(), blobs.size());
  free_blobs(blobs);

  std::vector<std::thread> threads;  // several grow the same tables
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([] {
      for (int round = 0; round < 20; ++round) {
        std::vector<uint32_t> mine(500);
        for (uint32_t& index : mine) CHECK(object::claim(object::Kind::kEvent, index) == Status::kOk);
        for (uint32_t index : mine) object::publish(index);
        for (uint32_t index : mine) recovery::let_go(index);
      }
    });
  for (std::thread& t : threads) t.join();
  CHECK_EQUAL(objects_in_use(), 1);
}

void in_a_process_of_its_own(const char* name, void (*test)()) {
  const pid_t pid = fork();
  CHECK(pid >= 0);
  if (pid == 0) {
    test();
    std::_Exit(0);
  }
  int status = 1;
  CHECK(waitpid(pid, &status, 0) == pid);
  if (status == 0) return;
  std::fprintf(stderr, "arena_test: %s failed (status %d)\n", name, status);
  std::_Exit(1);
}

}  // namespace

#define RUN(test) in_a_process_of_its_own(#test, test)

int main() {
  alarm(100);
  shared = shared_memory<Shared>();
  RUN(quota_is_an_error_with_figures);
  RUN(full_channel_is_an_error_and_loses_nothing);
  RUN(objects_at_the_quota_leave_nothing);
  RUN(memory_is_given_back);
  RUN(users_file_under_our_number_is_not_touched);
  if constexpr (SHOAL_SANITIZED == 1) {  // sanitizers need address space themselves
    RUN(little_address_space_is_an_error);
    RUN(message_that_cannot_be_mapped_stays);
    RUN(arena_that_cannot_be_mapped_is_an_error);
  }
  RUN(tables_grow);
  std::puts("arena_test: all good");
}
