#include "channel/multiplexer.hpp"

#include <sys/epoll.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <new>

#include "channel/doorbell.hpp"

namespace shoal::channel {

namespace {

constexpr uint64_t kOfSocket = 1;  // beside the address, which is even
constexpr uint64_t kMillisecond = 1'000'000;

uint64_t key(Lent* pipe, uint64_t which) { return reinterpret_cast<uintptr_t>(pipe) | which; }

bool add(int epoll, int fd, uint32_t events, uint64_t data) {
  epoll_event event{events, {.u64 = data}};
  return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0;
}

void remove(int epoll, int fd) { epoll_ctl(epoll, EPOLL_CTL_DEL, fd, nullptr); }

bool asks(const Lent& pipe) { return !is_empty(at(pipe.incoming)->ring); }

}  // namespace

bool Multiplexer::open() {
  epoll_ = os::above_standard(epoll_create1(EPOLL_CLOEXEC));
  news_ = os::above_standard(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  closed_ = epoll_ < 0 || news_ < 0 || !add(epoll_, news_, EPOLLIN | EPOLLET, 0);
  return !closed_;
}

void Multiplexer::abandon() {
  closed_ = true;
  for (int* fd : {&epoll_, &news_}) {
    if (*fd >= 0) ::close(*fd);
    *fd = -1;
  }
}

void Multiplexer::close() {
  mutex_.lock();
  closed_ = true;
  while (!lent_.empty()) hand_back(lent_.size() - 1);
  mutex_.unlock();
}

bool Multiplexer::take(Lent& pipe) {
  if (closed_ || is_stuck()) return false;
  try {
    lent_.reserve(lent_.size() + 1);
  } catch (const std::bad_alloc&) {
    return false;
  }
  if (!add(epoll_, pipe.socket, EPOLLIN | EPOLLRDHUP | EPOLLET, key(&pipe, kOfSocket))) return false;
  if (!add(epoll_, pipe.bell, EPOLLIN | EPOLLET, key(&pipe, 0))) {
    remove(epoll_, pipe.socket);
    return false;
  }
  sync::leave(company_);
  pipe.asked = os::now();
  lent_.push_back(&pipe);
  return true;
}

bool Multiplexer::attend(Lent& pipe) {
  mutex_.lock();
  const bool taken = take(pipe);
  const bool wake = taken && asleep_;
  mutex_.unlock();
  if (wake) os::add_one(news_);
  while (taken && pipe.is_back.load() == 0) {
    if (os::futex_wait(pipe.is_back, 0, os::now() + kStuck) != os::Wake::kTimeout) continue;
    mutex_.lock();
    if (is_stuck() && current_ != &pipe && pipe.is_back.load() == 0) hand_back(find(&pipe));
    mutex_.unlock();
  }
  return taken;
}

Lent* Multiplexer::next(Taken& out, sync::Wait& wait, Result& result) {
  mutex_.lock();
  current_ = nullptr;
  out_since_ = 0;
  const uint64_t before = os::now();
  charge(before - charged_until_);
  result = Result::kEmpty;
  Lent* found = nullptr;
  for (bool spun = false; !closed_;) {
    found = choose(wait);
    if (found != nullptr) {
      result = get_now(found->incoming, out, wait);
      if (result != Result::kEmpty) break;
      found = nullptr;
    }
    wait.begin();
    if (!spun) {
      spun = true;
      if (spin()) continue;
    }
    if (listen_to_all()) sleep();
  }
  if (found != nullptr) {
    const uint64_t now = os::now();
    charge(std::min(now - before, kAtOnce));  // what it was waited for; who is idle pays no more
    charged_until_ = found->asked = out_since_ = now;
    served_ = current_ = found;
    if (now >= look_for_quiet_) hand_back_quiet(now);
  }
  mutex_.unlock();
  return found;
}

void Multiplexer::charge(uint64_t nanoseconds) {
  if (served_ != nullptr) clock_ = std::max(clock_, served_->used += nanoseconds);
}

void Multiplexer::hand_back_current() {
  mutex_.lock();
  if (current_ != nullptr) hand_back(find(current_));
  current_ = nullptr;
  mutex_.unlock();
}

// Whose question is next; nullptr: there is none.
Lent* Multiplexer::choose(sync::Wait& wait) {
  Lent* least = nullptr;
  for (Lent* pipe : lent_) {
    if (!asks(*pipe)) continue;
    pipe->used = std::max(pipe->used, clock_ - 2 * kRun);
    if (least == nullptr || pipe->used < least->used) least = pipe;
  }
  if (least == nullptr || least == favoured_) return least;
  if (favoured_ == nullptr) return favoured_ = least;
  const uint64_t ahead = favoured_->used - std::min(favoured_->used, least->used);
  if (ahead >= 2 * kRun) return least;  // in passing: it asks seldom
  if (ahead < kRun && comes_at_once(*favoured_, wait)) return favoured_;
  return favoured_ = least;
}

// Whether the one whose run it is has asked, or does so in the time that it usually takes.
bool Multiplexer::comes_at_once(const Lent& pipe, sync::Wait& wait) const {
  if (asks(pipe)) return true;
  if (sync::shares_core(at(pipe.incoming)->putter)) return false;
  wait.begin();
  const uint64_t until = os::now() + kAtOnce;
  while (os::now() < until) {
    for (int i = 0; i < 16; ++i) {
      if (asks(pipe)) return true;
      os::relax();
    }
  }
  return false;
}

bool Multiplexer::has_question() const {
  return std::any_of(lent_.begin(), lent_.end(), [](const Lent* pipe) { return asks(*pipe); });
}

// Those on this core cannot ask while it is spun on. If all are here, and are more than one, there is no parting either: they are served in one go.
bool Multiplexer::spin() {
  const auto ready = [this] { return has_question(); };
  if (lent_.size() == 1) {
    company_.mine = &at(lent_[0]->outgoing)->putter;
    return sync::spin_for(at(lent_[0]->incoming)->putter, company_, ready);
  }
  const bool elsewhere = std::any_of(lent_.begin(), lent_.end(),
                                     [](const Lent* pipe) { return !sync::shares_core(at(pipe->incoming)->putter); });
  return elsewhere && sync::spin(ready);
}

// Before sleeping. False: somebody has asked already.
bool Multiplexer::listen_to_all() {
  bool nobody = true;
  for (Lent* pipe : lent_) nobody = listen(*at(pipe->incoming)) && nobody;
  return nobody;
}

// With the mutex, which is let go of meanwhile.
void Multiplexer::sleep() {
  int milliseconds = -1;
  if (!lent_.empty()) {
    const uint64_t now = os::now(), until = quiet_from();
    milliseconds = until <= now ? 0 : static_cast<int>((until - now) / kMillisecond) + 1;
  }
  asleep_ = true;
  mutex_.unlock();
  epoll_event events[16];
  const int n = epoll_wait(epoll_, events, 16, milliseconds);
  mutex_.lock();
  asleep_ = false;
  for (Lent* pipe : lent_) at(pipe->incoming)->listening.store(0, std::memory_order_relaxed);
  for (int i = 0; i < n; ++i) {
    if ((events[i].data.u64 & kOfSocket) == 0) continue;
    const size_t which = find(reinterpret_cast<Lent*>(events[i].data.u64 & ~kOfSocket));
    if (which < lent_.size()) hand_back(which);  // its thread sees what has become of the client
  }
  if (n == 0) hand_back_quiet(os::now());
}

uint64_t Multiplexer::quiet_from() const {
  uint64_t first = os::kNever;
  for (const Lent* pipe : lent_) first = std::min(first, pipe->asked + kQuiet);
  return first;
}

void Multiplexer::hand_back_quiet(uint64_t now) {
  for (size_t i = lent_.size(); i-- > 0;)
    if (lent_[i] != current_ && now - lent_[i]->asked >= kQuiet && !asks(*lent_[i])) hand_back(i);
  look_for_quiet_ = now + kQuiet;
}

bool Multiplexer::is_stuck() const { return out_since_ != 0 && os::now() - out_since_ > kStuck; }

size_t Multiplexer::find(const Lent* pipe) const {
  return static_cast<size_t>(std::find(lent_.begin(), lent_.end(), pipe) - lent_.begin());
}

void Multiplexer::hand_back(size_t which) {
  Lent* pipe = lent_[which];
  sync::leave(company_);
  if (favoured_ == pipe) favoured_ = nullptr;
  if (served_ == pipe) served_ = nullptr;
  lent_[which] = lent_.back();
  lent_.pop_back();
  remove(epoll_, pipe->socket);
  remove(epoll_, pipe->bell);
  os::Word& is_back = pipe->is_back;
  is_back.store(1);  // SYNC POINT: attend(). From here on its thread may be gone, with its stack
  os::futex_wake(is_back, 1);
}

}  // namespace shoal::channel
