// Two things are done to each operation of the core, at each step. One is below. The other is fault injection (--fail): each of its system calls fails, one at a
// time, and the operation must come to an end that is an error or a success, holding nothing.
//
// Crash exhaustion: each operation of the core is killed after every store that changed the arena and on both sides of every system call, and after each kill
// the survivor looks at what is left. See README.md.
#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include <dlfcn.h>
#include <algorithm>
#include <csignal>
#include <cstring>
#include <random>
#include <string>

#include "channel/segment.hpp"
#include "held.hpp"
#include "names/names.hpp"
#include "process/nodes.hpp"
#include "recovery/lifetime.hpp"
#include "recovery/recovery.hpp"
#include "scenario.hpp"
#include "trace.hpp"
#include "view.hpp"

namespace shoal::exhaust {

namespace {

constexpr int kSkipped = 77;  // exit status: cannot be done here
constexpr uint32_t kMostPoints = 1 << 16;
constexpr int kAsk = -1;  // in place of an error: which ones there are
constexpr unsigned kSecondsForRecord = 120, kSecondsForKill = 20;

// What a case (a process of its own, with an arena of its own) tells main.
struct Report {
  char text[4096];
  bool strayed;
  bool gave_up;
  int errors[8];  // by which the call that the victim stands before may fail
  uint32_t count;
  Point points[kMostPoints];
};
Report* report_ = nullptr;

void tell(const std::string& what) {
  const size_t had = std::strlen(report_->text);
  std::snprintf(report_->text + had, sizeof report_->text - had, "%s%s", had != 0 ? "; " : "", what.c_str());
}

// --- children -----------------------------------------------------------------------------------------------------------

pid_t forked(const std::function<int()>& work) {
  const pid_t pid = fork();
  CHECK(pid >= 0);
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    _exit(work());
  }
  process::set_pid(process::last_fork(), pid);
  return pid;
}

bool birth_is_traced_ = false;
// Runs in a forked child before it claims its slot: registered before the core's own handler.
void at_birth() {
  if (!birth_is_traced_) return;
  birth_is_traced_ = false;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  be_traced();
  mark();
}

// --- one case -----------------------------------------------------------------------------------------------------------

void sweep() {
  // A table whose growth was cut short has memory that it does not know of, until the next one who needs it grows it by the same.
  const uint32_t node = process::claim_node(process::NodeKind::kSleeper, 0);
  process::free_node(node);
  recovery::let_go(make_lock());
  uint32_t segment = 0;
  CHECK(channel::claim_segment(channel::link_of(0), segment) == arena::Status::kOk);
  channel::free_segment(segment);
  const std::string name = "shoal-exhaust-none-" + std::to_string(getpid());
  CHECK(names::track(name.c_str()) == arena::Status::kOk && names::forget(name.c_str(), names::Forget::kAll) == 1);

  recovery::enter();
  recovery::sweep_retired();
  recovery::leave();
}

// The victim stands where it may be: let it meet an error of the call that comes next, and see that it holds nothing in the end.
void meet_error(Scenario& scenario, int error, uint32_t held) {
  const std::vector<int> errors = errors_of_call(scenario.victim.pid);
  std::fill(std::begin(report_->errors), std::end(report_->errors), 0);
  std::copy_n(errors.begin(), std::min(errors.size(), std::size(report_->errors) - 1), report_->errors);
  if (error == kAsk) {
    scenario.abandon();
    _exit(0);
  }
  const bool to_its_end = fail_call(scenario, error);
  report_->gave_up = !to_its_end;
  if (to_its_end) {
    CHECK(mutexes_held(scenario.victim.pid) <= held && "an error leaves no mutex locked");
  } else {
    report_->text[0] = 0;  // it says why it gave up: that is the error it was given
  }
}

void run_case(const Entry& entry, const Point* point, int error) {
  alarm(point != nullptr ? kSecondsForKill : kSecondsForRecord);
  const std::unique_ptr<Scenario> scenario = entry.make();
  CHECK(arena::create(scenario->quota()) == arena::Status::kOk);
  recovery::init();
  pthread_atfork(nullptr, nullptr, at_birth);
  process::watch_forks();
  CHECK(process::claim(0));
  const Census before = take_census();
  scenario->prepare();

  scenario->failing = error != 0;
  birth_is_traced_ = scenario->from_birth();
  scenario->victim.pid = forked([&] {
    if (!scenario->from_birth()) {
      scenario->begin();
      be_traced();
      mark();
    }
    scenario->operate();
    mark();
    return 0;
  });
  birth_is_traced_ = false;
  scenario->victim.slot = process::slot_of(process::last_fork());
  wait_for_mark(scenario->victim.pid);
  const uint32_t held = mutexes_held(scenario->victim.pid);
  scenario->before_steps();
  report_->gave_up = false;
  if (point == nullptr) {
    std::vector<Point> points;
    record(*scenario, points);
    CHECK(points.size() <= kMostPoints);
    report_->count = static_cast<uint32_t>(points.size());
    std::copy(points.begin(), points.end(), report_->points);
  } else {
    report_->strayed = !advance(*scenario, *point);
    if (error != 0 && report_->strayed) {  // it makes no such call this time
      scenario->abandon();
      _exit(0);
    }
    if (error != 0) meet_error(*scenario, error, held);
  }
  if (!report_->gave_up) {
    kill(scenario->victim.pid, SIGKILL);
    CHECK(waitpid(scenario->victim.pid, nullptr, 0) == scenario->victim.pid);
  }

  scenario->at_death();
  scenario->recover_victim();
  scenario->check();
  scenario->finish();
  sweep();
  const Census after = take_census();
  if (!(before == after)) {
    tell("left behind: " + to_string(after) + " (before: " + to_string(before) + ")");
    _exit(1);
  }
}

// Runs a case in a process of its own; false: a violation, which the report tells.
bool run(const Entry& entry, const Point* point, int error = 0) {
  report_->text[0] = 0;
  report_->strayed = false;
  const pid_t pid = fork();
  if (pid == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    run_case(entry, point, error);
    _exit(0);
  }
  int status = 0;
  if (pid < 0 || waitpid(pid, &status, 0) != pid) {
    tell("no process for it");
    return false;
  }
  if (WIFSIGNALED(status))
    tell(WTERMSIG(status) == SIGALRM ? "somebody hangs" : "ended by signal " + std::to_string(WTERMSIG(status)));
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

// --- the command line ---------------------------------------------------------------------------------------------------

const char* strerrorname(int error) {
  const char* name = strerrorname_np(error);
  return name != nullptr ? name : "?";
}

std::string describe(const Point& p) {
  static const char* const kNames[] = {"at the start",      "after a store",         "before system call",
                                       "after system call", "asleep in system call", "at the end"};
  std::string text = kNames[static_cast<int>(p.when)];
  if (p.call >= 0) text += " " + std::to_string(p.call);
  Dl_info info{};
  char where[64];
  if (dladdr(reinterpret_cast<void*>(p.address), &info) != 0) {
    const char* name = std::strrchr(info.dli_fname, '/');
    std::snprintf(where, sizeof where, "+0x%llx, execution %u",
                  static_cast<unsigned long long>(p.address - reinterpret_cast<uint64_t>(info.dli_fbase)), p.nth);
    text += std::string(", ") + (name != nullptr ? name + 1 : info.dli_fname) + where;
    if (info.dli_sname != nullptr) text += std::string(" (") + info.dli_sname + ")";
  }
  if (p.place != 0) text += ", changed " + name_of(p.place);
  return text;
}

struct Options {
  std::string operation;  // all whose name begins so
  uint32_t every = 1;
  long point = -1;
  double seconds = 0;
  bool list = false, verbose = false, fail = false;
};

struct Recorded {
  Entry entry;
  std::vector<Point> points;
};

struct Totals {
  uint32_t kills = 0, violations = 0;
};

Totals exhaust(const Recorded& operation, const Options& options) {
  uint32_t stores = 0, calls = 0, kills = 0, strayed = 0, violations = 0;
  const auto count = static_cast<uint32_t>(operation.points.size());
  for (uint32_t k = 0; k < count; ++k) {
    const Point& p = operation.points[k];
    stores += p.when == When::kAfterStore ? 1 : 0;
    calls += p.when == When::kBeforeCall ? 1 : 0;
    if (options.point >= 0 ? options.point != k : k % options.every != options.every / 2 && k + 1 != count) continue;
    ++kills;
    const bool good = run(operation.entry, &p);
    strayed += report_->strayed ? 1 : 0;
    if (options.verbose || options.point >= 0)
      std::printf("  %u %s%s\n", k, describe(p).c_str(), report_->strayed ? " (strayed)" : "");
    if (good) continue;
    ++violations;
    std::printf("VIOLATION --operation %s --point %u: %s\n  killed %s\n", operation.entry.name, k, report_->text,
                describe(p).c_str());
  }
  std::printf("%-28s points %4u  stores %4u  system calls %3u  kills %4u  strayed %2u  violations %u\n",
              operation.entry.name, count, stores, calls, kills, strayed, violations);
  std::fflush(stdout);
  return {kills, violations};
}

std::vector<Entry> all_operations() {
  std::vector<Entry> all;
  for (const auto& family : {lock_operations(), wait_operations(), put_operations(), get_operations(),
                             bell_operations(), task_operations(), blob_operations(), memory_operations(),
                             lifetime_operations(), name_operations(), stream_operations(), recovery_operations()})
    all.insert(all.end(), family.begin(), family.end());
  return all;
}

// Each system call of an operation fails, in each way that it can.
Totals fail(const Recorded& operation, const Options& options) {
  uint32_t calls = 0, failures = 0, gave_up = 0, violations = 0;
  for (uint32_t k = 0; k < operation.points.size(); ++k) {
    const Point& p = operation.points[k];
    if (p.when != When::kBeforeCall || (options.point >= 0 && options.point != k)) continue;
    if (++calls % options.every != options.every / 2 && options.every != 1) continue;
    if (!run(operation.entry, &p, kAsk)) {
      ++violations;
      std::printf("VIOLATION --fail --operation %s --point %u: %s\n", operation.entry.name, k, report_->text);
      continue;
    }
    int errors[std::size(Report{}.errors)];
    std::copy(std::begin(report_->errors), std::end(report_->errors), errors);
    for (const int* error = errors; *error != 0 && !report_->strayed; ++error) {
      ++failures;
      const bool good = run(operation.entry, &p, *error);
      gave_up += report_->gave_up ? 1 : 0;
      if (options.verbose || options.point >= 0)
        std::printf("  %u %s: %s%s\n", k, describe(p).c_str(), strerrorname(*error),
                    report_->gave_up ? " (an error)" : "");
      if (good) continue;
      ++violations;
      std::printf("VIOLATION --fail --operation %s --point %u: %s\n  %s failed with %s\n", operation.entry.name, k,
                  report_->text, describe(p).c_str(), strerrorname(*error));
    }
  }
  std::printf("%-28s system calls %3u  failures %3u  errors told %3u  violations %u\n", operation.entry.name, calls,
              failures, gave_up, violations);
  std::fflush(stdout);
  return {failures, violations};
}

int run_all(Options options) {
  const uint64_t start = os::now();
  const auto passed = [&] { return static_cast<double>(os::now() - start) / 1e9; };
  std::vector<Recorded> recorded;
  Totals totals;
  size_t points = 0, left_out = 0;
  std::vector<Entry> operations = all_operations();
  // A sample keeps to its time where a step takes a hundred times as long as elsewhere (virtual machines): then it does with some of the operations, each time with others.
  if (options.seconds > 0) std::shuffle(operations.begin(), operations.end(), std::mt19937_64(start));
  for (const Entry& entry : operations) {
    if (std::string(entry.name).compare(0, options.operation.size(), options.operation) != 0) continue;
    if (options.list) {
      std::puts(entry.name);
      continue;
    }
    if (options.seconds > 0 && passed() > options.seconds) {
      ++left_out;
      continue;
    }
    if (!run(entry, nullptr)) {
      ++totals.violations;
      std::printf("VIOLATION --operation %s, not killed before its end: %s\n", entry.name, report_->text);
      continue;
    }
    recorded.push_back({entry, {report_->points, report_->points + report_->count}});
    points += report_->count;
  }
  if (options.list) return 0;
  if (recorded.empty() && totals.violations == 0) {
    std::fprintf(stderr, "no operation begins with %s (--list shows them)\n", options.operation.c_str());
    return 2;
  }
  if (options.seconds > 0 && !recorded.empty()) {
    // What a kill costs here and now, measured on a few; then as many as fit.
    const uint64_t from = os::now();
    uint32_t tried = 0;
    for (size_t i = 0; i < recorded.size(); i += 3, ++tried) run(recorded[i].entry, &recorded[i].points.back());
    const double each = static_cast<double>(os::now() - from) / 1e9 / tried;
    const double left = std::max(1.0, options.seconds - passed());
    options.every = std::max(options.every, static_cast<uint32_t>(1 + 1.3 * each * static_cast<double>(points) / left));
  }
  for (const Recorded& operation : recorded) {
    if (options.seconds > 0 && passed() > 2 * options.seconds) {
      ++left_out;
      continue;
    }
    const Totals t = options.fail ? fail(operation, options) : exhaust(operation, options);
    totals.kills += t.kills;
    totals.violations += t.violations;
  }
  std::printf("%zu operations, %zu points, %u %s (one %s in %u), %u violations, %.1f s\n", recorded.size(), points,
              totals.kills, options.fail ? "failures" : "kills", options.fail ? "system call" : "point", options.every,
              totals.violations, passed());
  if (left_out != 0) std::printf("%zu operations left out, for want of time\n", left_out);
  return totals.violations == 0 ? 0 : 1;
}

bool parse(int count, char** words, Options& options) {
  for (int i = 1; i < count; ++i) {
    const std::string word = words[i];
    if (word == "--list") {
      options.list = true;
    } else if (word == "--fail") {
      options.fail = true;
    } else if (word == "--verbose") {
      options.verbose = true;
    } else if (i + 1 == count) {
      return false;
    } else if (word == "--operation") {
      options.operation = words[++i];
    } else if (word == "--every") {
      options.every = static_cast<uint32_t>(std::max(1, std::atoi(words[++i])));
    } else if (word == "--point") {
      options.point = std::atol(words[++i]);
    } else if (word == "--seconds") {
      options.seconds = std::atof(words[++i]);
    } else {
      return false;
    }
  }
  return true;
}

}  // namespace

void violated(const char* file, int line, const char* what) {
  const char* name = std::strrchr(file, '/');
  tell(std::string(name != nullptr ? name + 1 : file) + ":" + std::to_string(line) + ": not true: " + what);
  _exit(1);
}

Child start(const std::function<int()>& work) {
  const pid_t pid = forked(work);
  return {pid, process::slot_of(process::last_fork())};
}

Child start_and_wait_until_asleep(const std::function<int()>& work) {
  const Child child = start(work);
  const auto has_said_so = [&] {
    for (uint32_t i = 0; i < arena::grown(arena::kNodeTable); ++i)
      if (process::node(i).owner.load() == child.slot + 1 && process::node(i).futex.load() != 0) return true;
    return false;
  };
  const uint64_t end = os::now() + 10 * kSecond;
  for (uint32_t seen = 0; seen < 3; seen = has_said_so() && sleeps(child.pid) ? seen + 1 : 0) {
    CHECK(os::now() < end);
    usleep(100);
  }
  return child;
}

int result_of(const Child& child) {
  int status = 0;
  const uint64_t end = os::now() + kSecond;
  while (waitpid(child.pid, &status, WNOHANG) == 0) {
    CHECK(os::now() < end && "a peer is woken within a second");
    usleep(50);
  }
  recover(child);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

Child killed_after(const std::function<void()>& work) {
  const Child child = start([&] {
    work();
    kill(getpid(), SIGKILL);
    return 0;
  });
  CHECK(waitpid(child.pid, nullptr, 0) == child.pid);
  return child;
}

void recover(const Child& dead) { CHECK(recovery::recover(dead.slot)); }

}  // namespace shoal::exhaust

int main(int count, char** words) {
  using namespace shoal::exhaust;
  Options options;
  if (!parse(count, words, options)) {
    std::fprintf(stderr,
                 "usage: %s [--operation NAME] [--every N] [--point K] [--seconds S] [--fail] [--list] [--verbose]\n",
                 words[0]);
    return 2;
  }
  if (const char* reason = why_not(); reason != nullptr && !options.list) {
    std::printf("skipped: %s\n", reason);
    return kSkipped;
  }
  void* shared = mmap(nullptr, sizeof(Report), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (shared == MAP_FAILED) {
    std::perror("mmap");
    return 2;
  }
  report_ = static_cast<Report*>(shared);
  return run_all(options);
}
