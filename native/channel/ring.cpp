#include "channel/ring.hpp"

#include <algorithm>
#include <cstring>
#include <vector>

#include "channel/segment.hpp"

namespace shoal::channel {

namespace {

constexpr uint64_t kRoomToFind = 4 * arena::kMiB;  // to be had from free blobs before a put fails

MessageHead* message_at(uint32_t segment_index, uint32_t offset) {
  return reinterpret_cast<MessageHead*>(segment(segment_index) + offset);
}

uint32_t size_in_ring(uint32_t payload) {
  return static_cast<uint32_t>(sizeof(MessageHead)) + (payload + 15) / 16 * 16;
}

// Where head really stands: a head without a segment starts at the first one ever. Only for a ring that has had a message.
Position normal(const Ring& ring, Position head) {
  if (head.segment() == kNoSegment)
    return Position::make(ring.first.load(std::memory_order_acquire), kFirstOffset, head.count());
  return head;
}

// The segments from head to tail, by index. False: one of them could not be mapped, so where the chain goes on is not known.
bool find_chain(const Ring& ring, std::vector<bool>& linked) {
  const Position tail{ring.tail.load()};
  if (tail.segment() == kNoSegment) return true;
  uint32_t s = normal(ring, Position{ring.head.load()}).segment();
  while (s < linked.size() && !linked[s]) {
    linked[s] = true;
    if (s == tail.segment()) break;
    const char* base = segment(s);
    if (base == nullptr) return false;
    s = reinterpret_cast<const Segment*>(base)->next.load();
  }
  return true;
}

// Frees the segments that name this ring but are not between head and tail: a producer's that it had not linked, or one that a consumer had left
// but not freed. Under both mutexes. Idempotent. Where the chain cannot be followed they are left to whoever looks next.
void free_stray_segments(Ring& ring) {
  const uint32_t grown = arena::grown(arena::kSegmentTable);
  std::vector<bool> linked(grown);
  if (!find_chain(ring, linked)) {
    ring.strays.store(1);
    return;
  }
  for (uint32_t i = 0; i < grown; ++i)
    if (segment_word(i).load() == link_of(ring.object) && !linked[i]) discard_segment(i);
  ring.strays.store(0);
}

void open_pending(Pending& pending, uint64_t at, blob::Name name) {
  pending.at.store(at, std::memory_order_relaxed);
  pending.blob.store(name.raw, std::memory_order_relaxed);
  pending.slot.store(process::mine() + 1, std::memory_order_release);
}
void close_pending(Pending& pending) { pending.slot.store(0, std::memory_order_release); }

void repair_tail(Ring& ring, const Repairs& repairs) {
  if (const uint32_t who = ring.putting.slot.load(); who != 0) {
    if (ring.putting.at.load() == ring.tail.load()) {  // not committed
      const blob::Name name{ring.putting.blob.load()};
      if (name.there() && !blob::free_carried(name)) blob::free_owned(name, who - 1);
    }
    close_pending(ring.putting);
  }
  if (repairs.tail != nullptr) repairs.tail(ring);
}

// Also when no get was pending: the dead may have been in the section for something else (a joinable queue's accounts).
void repair_head(Ring& ring, const Repairs& repairs) {
  const uint32_t who = ring.getting.slot.load();
  const bool committed = who == 0 || ring.getting.at.load() != ring.head.load();
  const blob::Name name{ring.getting.blob.load()};
  if (!committed && name.there()) blob::put_back(name, who - 1);
  if (repairs.head != nullptr) repairs.head(ring, who - 1, committed);
  close_pending(ring.getting);
}

// A dead holder of either side may have left a stray segment; sorting that out takes both sides. Lock order: head, then tail.
void repair_segments(Ring& ring, const Repairs& repairs) {
  sync::Wait forever;
  const sync::Lock got = sync::lock(ring.tail_mutex, forever);
  if (got == sync::Lock::kTakenFromDead) {
    repair_tail(ring, repairs);
    sync::repaired(ring.tail_mutex);
  }
  free_stray_segments(ring);
  sync::unlock(ring.tail_mutex);
}

// The segment cannot be mapped: no address space (RLIMIT_AS), or the arena's descriptor was closed.
Result leave_without_memory(sync::Mutex& mutex) {
  sync::unlock(mutex);
  return Result::kNoMemory;
}

Result refused(sync::Lock got) { return got == sync::Lock::kInterrupted ? Result::kInterrupted : Result::kTimeout; }

}  // namespace

void init(Ring& ring, uint32_t object) {
  ring.object = object;
  sync::init(ring.tail_mutex);
  sync::init(ring.head_mutex);
  const Position none = Position::make(kNoSegment, 0, 0);
  ring.tail = none.raw;
  ring.head = none.raw;
  ring.seen_tail = none.raw;
  ring.first = UINT32_MAX;
}

Result enter_tail(Ring& ring, sync::Wait& wait, const Repairs& repairs) {
  const sync::Lock got = sync::lock(ring.tail_mutex, wait);
  if (got == sync::Lock::kTaken) return Result::kDone;
  if (got != sync::Lock::kTakenFromDead) return refused(got);
  repair_tail(ring, repairs);
  sync::repaired(ring.tail_mutex);
  ring.strays.store(1);  // sorting them out here would break the lock order
  return Result::kDone;
}

Result enter_head(Ring& ring, sync::Wait& wait, const Repairs& repairs) {
  const sync::Lock got = sync::lock(ring.head_mutex, wait);
  if (got == sync::Lock::kTaken) return Result::kDone;
  if (got != sync::Lock::kTakenFromDead) return refused(got);
  repair_head(ring, repairs);
  repair_segments(ring, repairs);
  sync::repaired(ring.head_mutex);
  return Result::kDone;
}

Result put(Ring& ring, const Message& message, sync::Wait& wait, const PutHook& hook, const Repairs& repairs) {
  if (Result r = enter_tail(ring, wait, repairs); r != Result::kDone) return r;
  if (hook.may_put != nullptr && !hook.may_put(hook.state)) {
    sync::unlock(ring.tail_mutex);
    return Result::kFull;
  }
  const Position tail{ring.tail.load(std::memory_order_relaxed)};
  const bool has_blob = message.blob.there();
  const uint32_t payload = has_blob ? 8 : message.bytes, need = size_in_ring(payload);
  uint32_t at = tail.offset(), where = tail.segment();
  if (where != kNoSegment && segment(where) == nullptr) return leave_without_memory(ring.tail_mutex);
  if (where == kNoSegment || at + need > kLastOffset) {
    uint32_t fresh = 0;
    if (claim_segment(link_of(ring.object), fresh) != arena::Status::kOk &&
        (blob::trim(kRoomToFind) == 0 || claim_segment(link_of(ring.object), fresh) != arena::Status::kOk)) {
      sync::unlock(ring.tail_mutex);
      return Result::kNoMemory;
    }
    if (where == kNoSegment) {
      ring.first.store(fresh, std::memory_order_release);
    } else {
      reinterpret_cast<Segment*>(segment(where))->next.store(fresh, std::memory_order_relaxed);
      message_at(where, at)->kind = static_cast<uint16_t>(Kind::kEnd);
    }
    where = fresh;
    at = kFirstOffset;
  }
  MessageHead* m = message_at(where, at);
  m->bytes = payload;
  m->kind = static_cast<uint16_t>(has_blob ? Kind::kBlob : Kind::kInline);
  m->flags = message.flags;
  m->tag = message.tag;
  if (has_blob) {
    std::memcpy(m + 1, &message.blob.raw, 8);
    open_pending(ring.putting, tail.raw, message.blob);
    blob::carry(message.blob);
  } else {
    std::memcpy(m + 1, message.data, message.bytes);
  }
  if (hook.before_commit != nullptr) hook.before_commit(hook.state);
  ring.tail.store(Position::make(where, at + need, tail.count() + 1).raw, std::memory_order_release);  // the commit
  if (has_blob) close_pending(ring.putting);
  sync::unlock(ring.tail_mutex);
  return Result::kDone;
}

Result take(Ring& ring, Taken& out, sync::Wait& wait, const TakeHook& hook, const Repairs& repairs) {
  if (Result r = enter_head(ring, wait, repairs); r != Result::kDone) return r;
  Position head{ring.head.load(std::memory_order_relaxed)};
  Position tail{ring.seen_tail};
  if (between(head, tail) == 0) {
    tail = Position{ring.tail.load(std::memory_order_acquire)};
    ring.seen_tail = tail.raw;
  }
  if (between(head, tail) == 0) {
    if (hook.when_empty != nullptr) hook.when_empty(hook.state);
    sync::unlock(ring.head_mutex);
    return Result::kEmpty;
  }
  head = normal(ring, head);
  if (segment(head.segment()) == nullptr) return leave_without_memory(ring.head_mutex);
  MessageHead* m = message_at(head.segment(), head.offset());
  while (static_cast<Kind>(m->kind) == Kind::kEnd) {
    const uint32_t left = head.segment();
    const uint32_t next = reinterpret_cast<Segment*>(segment(left))->next.load(std::memory_order_relaxed);
    if (segment(next) == nullptr) return leave_without_memory(ring.head_mutex);
    head = Position::make(next, kFirstOffset, head.count());
    ring.head.store(head.raw, std::memory_order_release);  // first away from it, then free: in between it is a stray
    free_segment(left);
    m = message_at(head.segment(), head.offset());
  }
  out.flags = m->flags;
  out.tag = m->tag;
  const bool has_blob = static_cast<Kind>(m->kind) == Kind::kBlob;
  const bool careful = has_blob || hook.before_commit != nullptr;
  blob::Name name;
  if (has_blob) {
    std::memcpy(&name.raw, m + 1, 8);
  } else {
    std::memcpy(out.buffer, m + 1, m->bytes);
  }
  out.bytes = has_blob ? 0 : m->bytes;
  out.blob = name;
  if (careful) {
    // The position must be the one stored in head, or repair could not tell whether it moved.
    ring.head.store(head.raw, std::memory_order_release);
    open_pending(ring.getting, head.raw, name);
    if (has_blob) blob::take(name);
    if (hook.before_commit != nullptr) hook.before_commit(hook.state, *m);
  }
  const Position after = Position::make(head.segment(), head.offset() + size_in_ring(m->bytes), head.count() + 1);
  ring.head.store(after.raw, std::memory_order_release);  // the commit
  if (careful) close_pending(ring.getting);
  out.more = between(after, tail) != 0;
  if (!out.more && hook.when_empty != nullptr) hook.when_empty(hook.state);
  sync::unlock(ring.head_mutex);
  return Result::kDone;
}

void recover(Ring& ring, uint32_t dead_slot, const Repairs& repairs) {
  sync::Wait forever;
  // Somebody alive may be repairing just now: while the record names the dead, wait for the section.
  if (sync::lock_if_holder_is_dead(ring.head_mutex)) {
    repair_head(ring, repairs);
    repair_segments(ring, repairs);
    sync::repaired(ring.head_mutex);
    sync::unlock(ring.head_mutex);
  } else if (ring.getting.slot.load() == dead_slot + 1 && enter_head(ring, forever, repairs) == Result::kDone) {
    sync::unlock(ring.head_mutex);
  }
  if (sync::lock_if_holder_is_dead(ring.tail_mutex)) {
    repair_tail(ring, repairs);
    ring.strays.store(1);
    sync::repaired(ring.tail_mutex);
    sync::unlock(ring.tail_mutex);
  } else if (ring.putting.slot.load() == dead_slot + 1 && enter_tail(ring, forever, repairs) == Result::kDone) {
    sync::unlock(ring.tail_mutex);
  }
  if (ring.strays.load() != 0 && enter_head(ring, forever, repairs) == Result::kDone) {
    repair_segments(ring, repairs);
    sync::unlock(ring.head_mutex);
  }
}

void clear(Ring& ring, const Repairs& repairs) {
  char buffer[kInline];
  sync::Wait forever;
  const TakeHook nothing;
  for (;;) {
    Taken out;
    out.buffer = buffer;
    if (take(ring, out, forever, nothing, repairs) != Result::kDone) break;
    if (out.blob.there()) blob::free_owned(out.blob, process::mine());
  }
  if (ring.strays.load() != 0 && enter_head(ring, forever, repairs) == Result::kDone) {
    repair_segments(ring, repairs);
    sync::unlock(ring.head_mutex);
  }
  if (const Position tail{ring.tail.load()}; tail.segment() != kNoSegment) {
    uint64_t me = link_of(ring.object);
    segment_word(tail.segment()).compare_exchange_strong(me, 0);
  }
}

}  // namespace shoal::channel
