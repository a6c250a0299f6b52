// Floor 6: one thread that answers for many private pipes (doorbell.hpp), of clients that ask one question after the other.
//
// With a thread for each client, an answer costs a switch of the core wherever two of these threads share one, and a hand-over of the GIL wherever they do not.
// One thread that looks at all rings needs neither, and while it runs, a client on another core does not sleep at all.
//
// A client's own thread lends its pipe (attend), and sleeps until it is handed back: because a question came that may take its time and belongs into that
// thread, because the client has asked nothing for a while or has hung up, or because the serving thread is stuck in a question of somebody else. So only lively
// pipes are here, each of their threads is a watch on the serving one, and a server that has nothing to do has nobody awake.
//
// All of it belongs to one process, and goes with it. In a forked child nothing of it is used.
#pragma once

#include <mutex>
#include <vector>

#include "channel/channel.hpp"

namespace shoal::channel {

// A pipe that is lent, on the stack of the thread that lends it.
struct Lent {
  uint32_t incoming, outgoing;  // channels
  int socket, bell;             // of the incoming one
  os::Word is_back{0};          // SYNC POINT: the store in hand_back() pairs with the load in attend()
  uint64_t asked = 0;           // when, the last time
  uint64_t used = 0;            // ns of the serving thread's time
};

class Multiplexer {
 public:
  static constexpr uint64_t kQuiet = 20'000'000;  // ns without a question, after which a pipe is handed back
  static constexpr uint64_t kStuck = 20'000'000;  // ns for one question, after which others go back to their threads
  // To turn to another client costs more than many questions: it sleeps, and so may its core. So each has a run; who has had least is next. Who asks seldom does
  // not wait for the end of one.
  static constexpr uint64_t kRun = 1'000'000;  // ns by which a client may be ahead of those who wait
  static constexpr uint64_t kAtOnce = 4'000;   // ns that the next question of a run may take

  bool open();     // false: errno says why
  void close();    // hands all back; nothing is lent from then on
  void abandon();  // in a forked child, where whoever had the mutex may not be: closes its descriptors
  ~Multiplexer() { abandon(); }

  // Lends a pipe and sleeps until it is back. False: it was not taken.
  bool attend(Lent& pipe);

  // For the serving thread. Whose question is next, which is then `current()`; `result` is kDone if it was taken, else what is wrong with that pipe. nullptr: closed.
  Lent* next(Taken& out, sync::Wait& wait, Result& result);
  Lent* current() const { return current_; }
  void hand_back_current();

 private:
  Lent* choose(sync::Wait& wait);
  bool comes_at_once(const Lent& pipe, sync::Wait& wait) const;
  bool spin();
  bool listen_to_all();
  void sleep();
  bool has_question() const;
  bool is_stuck() const;
  bool take(Lent& pipe);
  void charge(uint64_t nanoseconds);  // whom was served last
  void hand_back(size_t which);
  void hand_back_quiet(uint64_t now);
  uint64_t quiet_from() const;
  size_t find(const Lent* pipe) const;

  sync::Company company_;  // with a single client
  // The GIL may be let go of with it, and is never asked for.
  std::mutex mutex_;  // over all that follows, except while the serving thread sleeps or is out with a question
  std::vector<Lent*> lent_;
  Lent* favoured_ = nullptr;     // whose run it is
  Lent* served_ = nullptr;       // who is charged for the time since …
  uint64_t charged_until_ = 0;   // … then
  uint64_t clock_ = 2 * kRun;    // the most that anybody has used
  Lent* current_ = nullptr;      // whose question the serving thread is out with
  uint64_t out_since_ = 0;       // with the current question; 0: not out
  uint64_t look_for_quiet_ = 0;  // when
  bool asleep_ = false, closed_ = true;
  int epoll_ = -1, news_ = -1;
};

}  // namespace shoal::channel
