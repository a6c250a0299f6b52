// Named shared memory: who answers for which file, how rows are used again, and what random kills leave. All files are in /dev/shm and begin with this
// process's number.
#include "names/names.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <string>

#include "core_support.hpp"

using namespace shoal;
using namespace shoal::test;
using arena::Status;
using names::Forget;

namespace {

std::string name_of(const std::string& what) { return "shoal-test-" + std::to_string(getppid()) + "-" + what; }
std::string path_of(const std::string& name) { return "/dev/shm/" + name; }
bool there(const std::string& name) { return access(path_of(name).c_str(), F_OK) == 0; }
bool tracked(const std::string& name) { return names::is_tracked(name.c_str()); }

struct File {
  int fd = open("/dev/shm", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  File() { CHECK(fd >= 0); }
  ~File() { close(fd); }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  Status link(const std::string& name) const { return names::link(fd, name.c_str()); }
  Status link_untracked(const std::string& name) const { return names::link_untracked(fd, name.c_str()); }
};

uint32_t rows() {
  uint32_t count = 0;
  for (uint32_t i = 0; i < arena::grown(arena::kNameTable); ++i)
    count += names::Word{names::word(i).load()}.state() != names::State::kFree ? 1 : 0;
  return count;
}

// Of everybody who runs this test now: only what has been made under the process that started the cases.
uint32_t files_left() {
  uint32_t count = 0;
  DIR* directory = opendir("/dev/shm");
  CHECK(directory != nullptr);
  while (const dirent* entry = readdir(directory))
    count += std::string(entry->d_name).rfind(name_of(""), 0) == 0 ? 1 : 0;
  closedir(directory);
  return count;
}

void bad_names_are_refused() {
  const File file;
  const auto error_of = [&](const std::string& name) {
    CHECK(file.link(name) == Status::kSystem);
    return arena::last_failure().error;
  };
  CHECK_EQUAL(error_of(""), EINVAL);
  CHECK_EQUAL(error_of("a/b"), EINVAL);
  CHECK_EQUAL(error_of(std::string(names::kLongest + 1, 'x')), ENAMETOOLONG);
  CHECK_EQUAL(rows(), 0);
  const std::string longest = name_of(std::string(names::kLongest - name_of("").size(), 'x'));
  CHECK(file.link(longest) == Status::kOk && tracked(longest));
  CHECK_EQUAL(names::remove_all(), 1);
  CHECK(!there(longest));
}

void what_is_tracked_goes_and_nothing_else() {
  const File mine, forgotten, others, untracked;
  CHECK(mine.link(name_of("mine")) == Status::kOk);
  CHECK(others.link(name_of("mine")) == Status::kSystem && arena::last_failure().error == EEXIST);
  CHECK(forgotten.link(name_of("forgotten")) == Status::kOk);
  CHECK_EQUAL(names::forget(name_of("forgotten").c_str(), Forget::kGone), 0);
  CHECK_EQUAL(names::forget(name_of("forgotten").c_str(), Forget::kAll), 1);
  CHECK_EQUAL(names::forget(name_of("forgotten").c_str(), Forget::kAll), 0);
  CHECK(untracked.link_untracked(name_of("untracked")) == Status::kOk);
  // Unlinked by somebody who does not know of rows, and the name used again.
  const File before;
  CHECK(before.link(name_of("again")) == Status::kOk && unlink(path_of(name_of("again")).c_str()) == 0);
  CHECK(others.link_untracked(name_of("again")) == Status::kOk);
  CHECK(tracked(name_of("mine")) && !tracked(name_of("again")) && !tracked(name_of("untracked")));
  CHECK_EQUAL(names::remove_all(), 1);
  CHECK(!there(name_of("mine")));
  for (const char* stays : {"forgotten", "untracked", "again"}) CHECK(unlink(path_of(name_of(stays)).c_str()) == 0);
  CHECK_EQUAL(rows(), 0);
}

std::string directory_of(const std::string& what) { return "/tmp/" + name_of(what); }
Status make(const std::string& path) { return names::make_directory(path.c_str()); }

void bind_at(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strcpy(address.sun_path, path.c_str());
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  CHECK(bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
  close(fd);
}

void directories_go_with_their_sockets_and_nothing_else() {
  const std::string mine = directory_of("mine"), shared = directory_of("shared"), gone = directory_of("gone");
  CHECK(make("relative") == Status::kSystem && arena::last_failure().error == EINVAL);
  CHECK(make("/" + std::string(names::kLongest, 'x')) == Status::kSystem &&
        arena::last_failure().error == ENAMETOOLONG);
  CHECK(make("/tmp/shoal-test-nowhere/x") == Status::kSystem && arena::last_failure().error == ENOENT);
  CHECK_EQUAL(rows(), 0);
  for (const std::string& path : {mine, shared, gone}) CHECK(make(path) == Status::kOk);
  struct stat s;
  CHECK(stat(mine.c_str(), &s) == 0 && (s.st_mode & 0777) == 0700);
  CHECK(make(mine) == Status::kSystem && arena::last_failure().error == EEXIST);
  for (const char* name : {"/a", "/b"}) bind_at(mine + name);
  bind_at(shared + "/a");
  CHECK(mkdir((shared + "/theirs").c_str(), 0700) == 0);
  CHECK(symlink(mine.c_str(), (shared + "/link").c_str()) == 0);
  // Removed, and made again by somebody else, whose it is. (On some file systems it could have the number of the first: so both are there for a moment.)
  CHECK(mkdir(directory_of("other").c_str(), 0700) == 0 && rmdir(gone.c_str()) == 0 &&
        rename(directory_of("other").c_str(), gone.c_str()) == 0);
  CHECK_EQUAL(names::remove_all(), 1);
  CHECK(access(mine.c_str(), F_OK) != 0 && access((shared + "/a").c_str(), F_OK) != 0 &&
        access(gone.c_str(), F_OK) == 0);
  CHECK(unlink((shared + "/link").c_str()) == 0 && rmdir((shared + "/theirs").c_str()) == 0);
  CHECK(rmdir(shared.c_str()) == 0 && rmdir(gone.c_str()) == 0);
  CHECK_EQUAL(rows(), 0);
}

// What its maker has removed is forgotten, and its row used again.
void directories_are_forgotten() {
  for (int i = 0; i < 1'000; ++i) {
    const std::string path = directory_of("again");
    CHECK(make(path) == Status::kOk);
    CHECK_EQUAL(names::forget(path.c_str(), Forget::kGone), 0);
    CHECK(rmdir(path.c_str()) == 0);
    CHECK_EQUAL(names::forget(path.c_str(), Forget::kGone), 1);
  }
  CHECK_EQUAL(arena::grown(arena::kNameTable), 64);
  CHECK_EQUAL(rows(), 0);
}

void a_name_can_be_answered_for_before_there_is_a_file() {
  const File early, late;
  CHECK(names::track(name_of("late").c_str()) == Status::kOk);
  CHECK(names::track(name_of("late").c_str()) == Status::kOk);
  CHECK_EQUAL(rows(), 1);
  CHECK(late.link_untracked(name_of("late")) == Status::kOk);
  CHECK(early.link_untracked(name_of("early")) == Status::kOk);
  CHECK(names::track(name_of("early").c_str()) == Status::kOk && names::track(name_of("early").c_str()) == Status::kOk);
  CHECK_EQUAL(rows(), 2);
  CHECK_EQUAL(names::remove_all(), 2);
  CHECK_EQUAL(rows(), 0);
}

// Files that others unlink leave no rows behind for ever, and many at once are no trouble.
void rows_are_used_again() {
  for (int i = 0; i < 2'000; ++i) {
    const File file;
    CHECK(file.link(name_of("again")) == Status::kOk && unlink(path_of(name_of("again")).c_str()) == 0);
  }
  CHECK_EQUAL(arena::grown(arena::kNameTable), 64);
  CHECK_EQUAL(names::remove_all(), 0);
  CHECK_EQUAL(rows(), 0);
  for (int i = 0; i < 500; ++i) CHECK(File().link(name_of(std::to_string(i))) == Status::kOk);
  CHECK_EQUAL(rows(), 500);
  CHECK_EQUAL(names::remove_all(), 500);
  CHECK_EQUAL(rows(), 0);
}

// Several at once over a few names: each link succeeds for one only, each file is forgotten by one only.
void threads_agree() {
  std::atomic<int64_t> balance{0};
  std::vector<std::thread> threads;
  for (uint32_t t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      std::mt19937 random(t);
      for (uint32_t k = 0; k < 4'000 / kSlowdown; ++k) {
        const std::string name = name_of(std::to_string(random() % 3));
        if (random() % 2 == 0) {
          const Status status = File().link(name);
          CHECK(status == Status::kOk || arena::last_failure().error == EEXIST);
          balance += status == Status::kOk ? 1 : 0;
        } else {
          balance -= unlink(path_of(name).c_str()) == 0 ? 1 : 0;
          names::forget(name.c_str(), Forget::kGone);
        }
      }
    });
  for (std::thread& thread : threads) thread.join();
  CHECK_EQUAL(names::remove_all(), balance.load());
  CHECK_EQUAL(rows(), 0);
}

// Children that are killed at any moment; when all have been recovered, each file that is there is answered for.
void kills_leave_nothing() {
  for (uint32_t round = 0; round < 60 / kSlowdown + 1; ++round) {
    std::vector<pid_t> children;
    for (uint32_t c = 0; c < 3; ++c)
      children.push_back(child([&] {
        const std::string name = "shoal-test-" + std::to_string(getpid());
        for (;;) {
          CHECK(File().link(name) == Status::kOk);
          ++shared->progress[c];
          CHECK(unlink(path_of(name).c_str()) == 0);
          names::forget(name.c_str(), Forget::kGone);
          const std::string path = "/tmp/" + name;
          CHECK(make(path) == Status::kOk);
          bind_at(path + "/a");
          CHECK(unlink((path + "/a").c_str()) == 0 && rmdir(path.c_str()) == 0);
          names::forget(path.c_str(), Forget::kGone);
        }
      }));
    until([&] { return shared->progress[0] > round && shared->progress[1] > round && shared->progress[2] > round; });
    usleep(500 + round * 37 % 3'000);
    for (const pid_t pid : children) end(pid, SIGKILL);
    recovery::recover_all();
    uint32_t left = 0;
    const auto is_left = [](pid_t pid) {
      const std::string name = "shoal-test-" + std::to_string(pid);
      return (there(name) ? 1 : 0) + (access(("/tmp/" + name).c_str(), F_OK) == 0 ? 1 : 0);
    };
    for (const pid_t pid : children) left += is_left(pid);
    CHECK_EQUAL(names::remove_all(), left);
    for (const pid_t pid : children) CHECK_EQUAL(is_left(pid), 0);
    CHECK_EQUAL(rows(), 0);
  }
}

}  // namespace

int main() {
  void (*const cases[])() = {bad_names_are_refused,
                             what_is_tracked_goes_and_nothing_else,
                             directories_go_with_their_sockets_and_nothing_else,
                             directories_are_forgotten,
                             a_name_can_be_answered_for_before_there_is_a_file,
                             rows_are_used_again,
                             threads_agree,
                             kills_leave_nothing};
  for (const auto& each : cases) {
    const pid_t pid = fork();
    if (pid == 0) {
      prepare(100);
      each();
      CHECK_EQUAL(files_left(), 0);
      std::_Exit(0);
    }
    finish(pid);
  }
  return 0;
}
