// Objects and references: processes that make, mention, adopt and drop objects, fork and are killed at any moment. Each looks after its objects all the
// time: a canary in the object's body says whether it was freed under somebody's hands. When all have gone nothing may be left.
#include <sys/prctl.h>

#include <algorithm>

#include "core_support.hpp"
#include "memory/memory.hpp"

using namespace shoal;
using channel::Result;
using namespace shoal::test;

namespace {

constexpr uint64_t kOfMemory = 1ull << 63;  // in a reference: to a memory, not to an event
constexpr uint32_t kChannels = 3, kMostProcesses = 14, kMostHandles = 24, kMostBlobs = 6, kMostMentions = 3;

struct Counts {
  std::atomic<uint64_t> made, forks, sent, adopted, stale, checks;
  std::atomic<uint64_t> stale_reference;  // a weak reference, perhaps to something that has gone
};
Counts* counts = nullptr;

struct Handle {
  uint32_t index, generation;
};

uint64_t canary_of(Handle h) {
  return (static_cast<uint64_t>(h.generation) << 32 | h.index) * 0x9E3779B97F4A7C15ull | 1;
}
bool is_memory(uint32_t index) { return object::load(index).kind() == object::Kind::kMemory; }
// An event's is in its body, a memory's at its beginning.
std::atomic<uint64_t>& canary(uint32_t index) {
  return is_memory(index) ? *reinterpret_cast<std::atomic<uint64_t>*>(memory::address(index))
                          : *object::body<std::atomic<uint64_t>>(index);
}

// All zeros when it is made; then full of something, and the canary in front.
Handle make_memory(uint64_t bytes) {
  Handle h{};
  CHECK(memory::create(bytes, h.index, h.generation) == arena::Status::kOk);
  char* at = memory::address(h.index);
  CHECK(*at == 0 && std::memcmp(at, at + 1, bytes - 1) == 0);
  std::memset(at, 0xab, bytes);
  canary(h.index) = canary_of(h);
  return h;
}

struct Blob {
  blob::Name name;
  uint32_t owner;  // the slot that received it: a forked child looks at it, too, but lets nothing go
  uint64_t bytes, seed;
};

struct Life {
  std::vector<Handle> handles;  // may name an object several times
  std::vector<Blob> blobs;
  std::mt19937 random;

  uint32_t below(uint32_t n) { return static_cast<uint32_t>(random() % n); }
  uint32_t count(uint32_t index) const {
    return static_cast<uint32_t>(
        std::count_if(handles.begin(), handles.end(), [&](Handle h) { return h.index == index; }));
  }

  void check() {
    for (const Handle h : handles) {
      const object::Word w = object::load(h.index);
      if (w.generation() != h.generation || canary(h.index) != canary_of(h)) {
        std::fprintf(
            stderr,
            "lifetime_test: object %u of generation %u was freed while held: generation %u, state %u, canary %s\n",
            h.index, h.generation, w.generation(), static_cast<uint32_t>(w.state()),
            canary(h.index) == canary_of(h) ? "whole" : "gone");
        std::_Exit(1);
      }
    }
    for (const Blob& b : blobs) {
      if (!is_filled(blob::payload(blob::head(b.name)), b.bytes, b.seed)) {
        std::fprintf(stderr, "lifetime_test: a received blob has changed, seen by %s\n",
                     b.owner == process::mine() ? "its owner" : "a forked child");
        std::_Exit(1);
      }
    }
    counts->checks.fetch_add(handles.size() + blobs.size(), std::memory_order_relaxed);
  }

  void make() {
    if (handles.size() >= kMostHandles) return;
    counts->made.fetch_add(1, std::memory_order_relaxed);
    Handle h{};
    if (below(2) == 0) {
      const uint64_t sizes[] = {8, memory::kMostHere, 5'000, 150'000};
      handles.push_back(make_memory(sizes[below(4)]));
      return;
    }
    CHECK(object::claim(object::Kind::kEvent, h.index) == arena::Status::kOk);
    h.generation = object::load(h.index).generation();
    canary(h.index) = canary_of(h);
    CHECK_EQUAL(object::publish(h.index), h.generation);
    handles.push_back(h);
  }

  void drop() {
    if (handles.empty()) return;
    const size_t which = below(static_cast<uint32_t>(handles.size()));
    const Handle h = handles[which];
    handles.erase(handles.begin() + static_cast<ptrdiff_t>(which));
    if (count(h.index) == 0) recovery::let_go(h.index);
  }

  // As the bindings do it: hold, note, write the list, say that there is one, put.
  void send(const Channel& c) {
    const uint32_t n = handles.empty() ? 0 : below(kMostMentions + 1);
    std::vector<blob::Mention> list;
    for (uint32_t i = 0; i < n; ++i) {
      const Handle h = handles[below(static_cast<uint32_t>(handles.size()))];
      object::hold(h.index);
      object::note_listed(h.index);
      list.push_back({h.index, h.generation});
    }
    const uint64_t bytes = 1 + below(below(10) == 0 ? 200'000 : 3'000);
    channel::Message m;
    m.tag = random();
    CHECK(blob::allocate(bytes, n, m.blob) == arena::Status::kOk);
    m.blob_bytes = bytes;
    blob::Head* h = blob::head(m.blob);
    fill(blob::payload(h), bytes, m.tag);
    std::copy(list.begin(), list.end(), blob::mentions(h));
    if (n != 0) blob::set_listed(m.blob);
    sync::Wait now = within(0);
    if (channel::put(c.index, m, now) == Result::kDone)
      counts->sent.fetch_add(1, std::memory_order_relaxed);
    else
      CHECK(blob::free_owned(m.blob, process::mine()));
  }

  void receive(const Channel& c) {
    channel::Taken taken;
    char buffer[channel::kInline];
    taken.buffer = buffer;
    sync::Wait now = within(0);
    if (channel::get(c.index, taken, now) != Result::kDone) return;
    blob::Head* h = blob::head(taken.blob);
    h->birth = arena::header().fork_sequence.load();
    CHECK(is_filled(blob::payload(h), h->payload_bytes, taken.tag));
    for (uint32_t i = 0; i < h->mentions; ++i) {
      const blob::Mention m = blob::mentions(h)[i];
      CHECK(object::adopt(m.object, m.generation, object::load(m.object).kind()));  // its message kept it alive
      handles.push_back({m.object, m.generation});
      counts->adopted.fetch_add(1, std::memory_order_relaxed);
    }
    blobs.push_back({taken.blob, process::mine(), h->payload_bytes, taken.tag});
    while (handles.size() > kMostHandles) drop();
    while (blobs.size() > kMostBlobs) drop_blob();
  }

  void drop_blob() {
    if (blobs.empty()) return;
    const size_t which = below(static_cast<uint32_t>(blobs.size()));
    const Blob b = blobs[which];
    blobs.erase(blobs.begin() + static_cast<ptrdiff_t>(which));
    if (b.owner == process::mine()) recovery::let_go(b.name, b.owner);
  }

  // A reference that nothing keeps alive: either it is adopted whole, or refused.
  void try_stale_reference() {
    if (!handles.empty() && below(2) == 0) {
      const Handle h = handles[below(static_cast<uint32_t>(handles.size()))];
      counts->stale_reference =
          (is_memory(h.index) ? kOfMemory : 0) | static_cast<uint64_t>(h.generation) << 32 | h.index;
    }
    const uint64_t raw = counts->stale_reference;
    const object::Kind kind = (raw & kOfMemory) != 0 ? object::Kind::kMemory : object::Kind::kEvent;
    const Handle h{static_cast<uint32_t>(raw), static_cast<uint32_t>((raw & ~kOfMemory) >> 32)};
    if (raw == 0 || count(h.index) != 0) return;
    if (object::adopt(h.index, h.generation, kind))
      handles.push_back(h);
    else
      counts->stale.fetch_add(1, std::memory_order_relaxed);
  }

  void fork_one() {
    if (slots_in_use() >= kMostProcesses) return;
    const pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) {
      random.seed(static_cast<unsigned>(getpid()));
      counts->forks.fetch_add(1, std::memory_order_relaxed);
    } else {
      process::set_pid(process::last_fork(), pid);
    }
  }

  void live(const Channel* const* channels) {
    for (;;) {
      check();
      const Channel& c = *channels[below(kChannels)];
      switch (below(20)) {
        case 0:
        case 1:
        case 2:
        case 3:
          make();
          break;
        case 4:
        case 5:
        case 6:
        case 7:
          drop();
          break;
        case 8:
        case 9:
        case 10:
        case 11:
          send(c);
          break;
        case 12:
        case 13:
        case 14:
        case 15:
          receive(c);
          break;
        case 16:
          drop_blob();
          break;
        case 17:
          try_stale_reference();
          break;
        case 18:
          if (below(8) == 0) fork_one();
          break;
        default:
          if (below(300) == 0) {
            process::leave(0, true);
            std::_Exit(0);
          }
          if (below(10) == 0) usleep(below(400));
      }
    }
  }
};

// Reaps what has ended; a child of this test that did not leave in good order, or by our hand, has found something.
void reap(bool wait_for_all) {
  int status = 0;
  for (;;) {
    const pid_t pid = waitpid(-1, &status, wait_for_all ? 0 : WNOHANG);
    if (pid <= 0) return;
    CHECK(WIFSIGNALED(status) ? WTERMSIG(status) == SIGKILL : WEXITSTATUS(status) == 0);
  }
}

// Processes of the tree but this one. Their numbers cannot have been reused: only this process reaps orphans, and it has just recovered whom it reaped.
std::vector<pid_t> others() {
  std::vector<pid_t> pids;
  for (uint32_t i = 0; i < arena::kSlots; ++i) {
    process::Slot& s = process::slot(i);
    if (i != process::mine() && process::state_of(s.word.load()) == process::State::kLive && s.pid > 0)
      pids.push_back(s.pid);
  }
  return pids;
}

void random_lives() {
  Channel a({.maxsize = 20}), b({.maxsize = 40}), c;
  const Channel* channels[kChannels] = {&a, &b, &c};
  std::mt19937 random(static_cast<unsigned>(os::now()));
  const auto start = [&] {
    child([&] {
      Life life;
      life.random.seed(static_cast<unsigned>(getpid()));
      life.live(channels);
    });
  };
  uint64_t kills = 0;
  const auto enough = [&] { return counts->adopted > 100 && counts->forks > 20 && kills > 20; };
  const uint64_t end_at = os::now() + 8 * kSecond;
  while (os::now() < end_at || !enough()) {  // the watchdog bounds it
    reap(false);
    recovery::recover_all();
    if (c.length() > 100) {  // the unbounded one must not eat the machine
      Got got = get(c.index, within(0));
      // kTimeout: the section was busy for as long as one look waits.
      CHECK(got.result == Result::kDone || got.result == Result::kEmpty || got.result == Result::kTimeout);
    }
    const std::vector<pid_t> pids = others();
    if (pids.size() < 5)
      start();
    else if (random() % 3 == 0 && kill(pids[random() % pids.size()], SIGKILL) == 0)
      ++kills;
    usleep(random() % 2'000);
  }
  // Some children are younger than the look at the slots.
  for (std::vector<pid_t> pids = others(); !pids.empty(); pids = others()) {
    for (pid_t pid : pids) kill(pid, SIGKILL);
    usleep(2'000);
    reap(false);
    recovery::recover_all();
  }
  // Forkers killed between reserving a slot and forking leave it to its time, which has come: there is nobody left who could claim it.
  for (uint32_t i = 0; i < arena::kSlots; ++i)
    if (process::state_of(process::slot(i).word.load()) == process::State::kReserved) process::slot(i).reserved_at = 1;
  reap(true);
  recovery::recover_all();
  for (const Channel* channel : channels)
    while (get(channel->index, within(0)).result == Result::kDone) {
    }
  sweep();
  CHECK_EQUAL(slots_in_use(), 1);
  CHECK_EQUAL(blobs_in_use(), 0);
  CHECK_EQUAL(objects_in_use(), kChannels);
  std::printf(
      "lifetime_test: %llu objects, %llu messages, %llu adoptions, %llu refused, %llu forks, %llu kills, %llu checks\n",
      static_cast<unsigned long long>(counts->made.load()), static_cast<unsigned long long>(counts->sent.load()),
      static_cast<unsigned long long>(counts->adopted.load()), static_cast<unsigned long long>(counts->stale.load()),
      static_cast<unsigned long long>(counts->forks.load()), static_cast<unsigned long long>(kills),
      static_cast<unsigned long long>(counts->checks.load()));
}

void a_message_keeps_its_objects() {
  Channel c;
  Handle h{};
  CHECK(object::claim(object::Kind::kEvent, h.index) == arena::Status::kOk);
  h.generation = object::load(h.index).generation();
  canary(h.index) = canary_of(h);
  object::publish(h.index);
  Life life;
  life.handles = {h};
  for (bool listed = false; !listed;) {  // how many it mentions is random
    life.send(c);
    blob::for_each([&](blob::Name, blob::Word w) { listed |= w.listed(); });
  }
  life.handles.clear();
  recovery::let_go(h.index);
  sweep();
  CHECK(object::load(h.index).state() == object::State::kRetired);
  CHECK(canary(h.index) == canary_of(h));
  while (c.length() != 0) life.receive(c);
  CHECK(!life.handles.empty() && object::load(h.index).state() == object::State::kLive);
  life.check();
  while (!life.handles.empty()) life.drop();
  while (!life.blobs.empty()) life.drop_blob();
  sweep();
  CHECK(object::load(h.index).state() == object::State::kFree);
  CHECK(!object::adopt(h.index, h.generation, object::Kind::kEvent));
  CHECK_EQUAL(bits_without_object(), 0);
}

void an_inherited_object_stays(bool parent_is_killed) {
  Handle h{};
  CHECK(object::claim(object::Kind::kEvent, h.index) == arena::Status::kOk);
  h.generation = object::load(h.index).generation();
  canary(h.index) = canary_of(h);
  object::publish(h.index);
  shared->ready = shared->go = 0;
  const auto look = [&] {  // at the end of the tree: a child, or a child's child
    shared->ready = 1;
    until([] { return shared->go != 0; });
    CHECK(canary(h.index) == canary_of(h) && object::load(h.index).generation() == h.generation);
    process::leave(0, true);
    std::_Exit(0);
  };
  const pid_t first = child([&] {
    if (!parent_is_killed) look();
    child(look);
    pause();
  });
  until([] { return shared->ready == 1; });
  recovery::let_go(h.index);
  if (parent_is_killed) {
    end(first, SIGKILL);
    CHECK(recovery::recover_all() == 1);
  }
  sweep();
  CHECK(canary(h.index) == canary_of(h));
  CHECK(object::load(h.index).state() == object::State::kRetired);
  shared->go = 1;
  reap(true);
  CHECK(recovery::recover_all() == 1);
  CHECK(object::load(h.index).state() == object::State::kFree);
}

void a_received_blob_stays_for_a_forked_child(bool owner_is_killed) {
  constexpr uint64_t kBytes = 100'000;
  Channel c;
  CHECK(put(c.index, 3, kBytes, {}) == Result::kDone);
  shared->ready = shared->go = 0;
  const pid_t owner = child([&] {
    channel::Taken taken;
    char buffer[channel::kInline];
    taken.buffer = buffer;
    sync::Wait wait;
    CHECK(channel::get(c.index, taken, wait) == Result::kDone);
    const char* payload = blob::payload(blob::head(taken.blob));
    child([&] {
      shared->ready = 1;
      until([] { return shared->go != 0; });
      CHECK(is_filled(payload, kBytes, 3));
      process::leave(0, true);
    });
    until([] { return shared->ready == 1; });
    recovery::let_go(taken.blob, process::mine());
    shared->ready = 2;
    if (owner_is_killed) kill(getpid(), SIGKILL);
    process::leave(0, true);
  });
  end(owner, 0);
  CHECK_EQUAL(shared->ready.load(), 2);
  CHECK(recovery::recover_all() == 1);
  CHECK_EQUAL(blobs_in_use(), 1);
  // Whoever allocates now must not get its pages.
  for (uint64_t i = 0; i < 20; ++i) CHECK(put(c.index, i, kBytes, {}) == Result::kDone);
  shared->go = 1;
  reap(true);
  CHECK(recovery::recover_all() == 1);
  CHECK_EQUAL(blobs_in_use(), 20);
}

// What is large does not lie about until others have been dropped.
void large_memory_goes_at_once() {
  const Handle h = make_memory(8 * arena::kMiB);
  process::cancel(process::reserve(0));  // so it is retired first
  CHECK(recovery::recover_all() == 1);
  recovery::let_go(h.index);
  CHECK(object::load(h.index).state() == object::State::kFree);
  CHECK_EQUAL(blobs_in_use(), 0);
}

// Somebody who was about to be told that a reference is stale had already set its bit.
void a_bit_on_a_free_cell_goes_with_its_process() {
  uint32_t index = 0;
  CHECK(object::claim(object::Kind::kEvent, index) == arena::Status::kOk);
  object::publish(index);
  recovery::let_go(index);
  CHECK(object::load(index).state() == object::State::kFree);
  end(child([&] {
        const uint32_t me = process::mine();
        object::holders(index)[me / 64].fetch_or(1ull << me % 64);
        kill(getpid(), SIGKILL);
      }),
      0);
  CHECK(recovery::recover_all() == 1);
  CHECK_EQUAL(bits_without_object(), 0);
}

// Its slot stays reserved for a minute, since nobody can tell it from one that has not run yet. What was made after the fork does not wait for that.
bool killed_before_it_has_its_slot = false;
void an_unborn_child_holds_nothing_that_came_after_it() {
  const uint64_t slots = slots_in_use();
  killed_before_it_has_its_slot = true;
  const pid_t unborn = fork();
  CHECK(unborn > 0);
  killed_before_it_has_its_slot = false;
  const process::Token of_unborn = process::last_fork();
  CHECK(waitpid(unborn, nullptr, 0) == unborn);
  CHECK_EQUAL(slots_in_use(), slots + 1);

  const Handle h = make_memory(5'000);
  const pid_t heir = child([] { pause(); });
  recovery::let_go(h.index);
  CHECK(object::load(h.index).state() == object::State::kRetired);
  end(heir, SIGKILL);
  CHECK_EQUAL(recovery::recover_all(), 1);
  CHECK(object::load(h.index).state() == object::State::kFree);
  CHECK_EQUAL(blobs_in_use(), 0);
  process::cancel(of_unborn);
  CHECK_EQUAL(recovery::recover_all(), 1);
}

}  // namespace

int main() {
  // Before the core's own handler, and so before it runs in the child.
  pthread_atfork(nullptr, nullptr, [] {
    if (killed_before_it_has_its_slot) kill(getpid(), SIGKILL);
  });
  prepare(100);
  prctl(PR_SET_CHILD_SUBREAPER, 1);
  counts = shared_memory<Counts>();
  a_message_keeps_its_objects();
  for (bool killed : {false, true}) {
    an_inherited_object_stays(killed);
    a_received_blob_stays_for_a_forked_child(killed);
  }
  a_bit_on_a_free_cell_goes_with_its_process();
  an_unborn_child_holds_nothing_that_came_after_it();
  check_nothing_left();
  large_memory_goes_at_once();
  check_nothing_left();
  random_lives();
  check_nothing_left();
  std::puts("lifetime_test: all good");
}
