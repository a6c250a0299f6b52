// Named shared memory, and directories for sockets: what the tree answers for goes when it ends, what it does not answer for stays, wherever in between
// somebody is killed.
#include "names/names.hpp"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cstring>
#include <string>

#include "recovery/recovery.hpp"
#include "scenario.hpp"

namespace shoal::exhaust {

namespace {

using names::Forget;

std::string path_of(const std::string& name) { return "/dev/shm/" + name; }

int unnamed() {
  const int fd = open("/dev/shm", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  CHECK(fd >= 0);
  return fd;
}
// Whether the file behind `fd` bears the name.
bool bears(int fd, const std::string& name) {
  struct stat its, named;
  CHECK(fstat(fd, &its) == 0);
  return stat(path_of(name).c_str(), &named) == 0 && named.st_ino == its.st_ino;
}
uint32_t rows() {
  uint32_t count = 0;
  for (uint32_t i = 0; i < arena::grown(arena::kNameTable); ++i)
    count += names::Word{names::word(i).load()}.state() != names::State::kFree ? 1 : 0;
  return count;
}
bool none_claimed() {
  for (uint32_t i = 0; i < arena::grown(arena::kNameTable); ++i)
    if (names::Word{names::word(i).load()}.state() == names::State::kClaimed) return false;
  return true;
}

class Named : public Scenario {
 public:
  void prepare() override {
    name = "shoal-exhaust-" + std::to_string(getpid());
    ::unlink(path_of(name).c_str());  // of a case that was ended before
    fd = unnamed();
    set_up();
  }
  void finish() override {
    names::remove_all();
    abandon();
    close(fd);
  }
  void abandon() override { ::unlink(path_of(name).c_str()); }

 protected:
  virtual void set_up() {}
  void link() const { CHECK(names::link(fd, name.c_str()) == arena::Status::kOk); }
  // The end of the tree takes the file away exactly if it was tracked.
  void ends(bool tracked) const {
    CHECK(none_claimed());
    CHECK(bears(fd, name) && names::is_tracked(name.c_str()) == tracked);
    CHECK(names::remove_all() == (tracked ? 1 : 0));
    CHECK(bears(fd, name) != tracked && rows() == 0);
  }
  std::string name;
  int fd = -1;
};

class Link : public Named {
 public:
  void operate() override { names::link(fd, name.c_str()); }
  void check() override {
    if (!bears(fd, name)) link();  // it has not happened
    ends(true);
  }
};

// The table is full of names whose files others have unlinked, so linking begins with freeing those.
class LinkInFullTable final : public Link {
 public:
  void finish() override {
    Link::finish();
    CHECK(rows() == 0);
  }

 private:
  static constexpr uint32_t kStale = 4, kFirstStep = 64;
  void set_up() override {
    for (uint32_t i = 0; i < kFirstStep; ++i) {
      const std::string other = name + "-" + std::to_string(i);
      if (i >= kStale) {
        CHECK(names::track(other.c_str()) == arena::Status::kOk);
        continue;
      }
      const int its = unnamed();
      CHECK(names::link(its, other.c_str()) == arena::Status::kOk && ::unlink(path_of(other).c_str()) == 0);
      close(its);
    }
    CHECK(rows() == kFirstStep && arena::grown(arena::kNameTable) == kFirstStep);
  }
};

// Somebody else has a file of that name.
class LinkTaken final : public Named {
 public:
  void operate() override { names::link(unnamed(), name.c_str()); }
  void check() override { ends(false); }

 private:
  void set_up() override { CHECK(names::link_untracked(fd, name.c_str()) == arena::Status::kOk); }
};

class ForgetIt final : public Named {
 public:
  void operate() override { names::forget(name.c_str(), Forget::kAll); }
  void check() override { ends(names::is_tracked(name.c_str())); }

 private:
  void set_up() override { link(); }
};

// What unlink() of a named memory does: the file first, so that it is never without somebody to answer for it.
class Unlink final : public Named {
 public:
  void operate() override {
    ::unlink(path_of(name).c_str());
    names::forget(name.c_str(), Forget::kGone);
  }
  void check() override {
    if (bears(fd, name)) return ends(true);
    CHECK(!names::is_tracked(name.c_str()));
    // A new one of that name is nobody's but its maker's, whatever was left of the old one.
    const int other = unnamed();
    CHECK(names::link_untracked(other, name.c_str()) == arena::Status::kOk);
    CHECK(names::remove_all() == 0 && bears(other, name) && rows() == 0);
    close(other);
  }

 private:
  void set_up() override { link(); }
};

// A name that nothing bears yet.
class Track final : public Named {
 public:
  void operate() override { names::track(name.c_str()); }
  void check() override {
    CHECK(names::link_untracked(fd, name.c_str()) == arena::Status::kOk);
    ends(names::is_tracked(name.c_str()));
  }
};

// Who takes everything away is killed in the middle of it, and another begins again.
class End final : public Named {
 public:
  void abandon() override {
    for (const char* more : {"", "-again", "-other"}) ::unlink(path_of(name + more).c_str());
  }
  void operate() override { names::remove_all(); }
  void check() override {
    names::remove_all();
    CHECK(rows() == 0 && !bears(fd, name) && !bears(fd, name + "-again"));
    CHECK(bears(others, name + "-other") && ::unlink(path_of(name + "-other").c_str()) == 0);
    close(others);
  }

 private:
  void set_up() override {
    link();
    CHECK(names::link(fd, (name + "-again").c_str()) == arena::Status::kOk);
    // One that has been unlinked and made anew by somebody else.
    const std::string other = name + "-other";
    others = unnamed();
    const int its = unnamed();
    CHECK(names::link(its, other.c_str()) == arena::Status::kOk && ::unlink(path_of(other).c_str()) == 0);
    CHECK(names::link_untracked(others, other.c_str()) == arena::Status::kOk);
    close(its);
  }
  int others = -1;
};

// Recovery of one that was killed before it had said what it had done, and that recovery begun again.
template <class Place>
class OfDead : public Place {
 public:
  void operate() override { recovery::recover(dead.slot); }
  void recover_victim() override {
    recovery::recover(dead.slot);
    recover(this->victim);
  }

 protected:
  // By the one that will be dead.
  static void unsay() {
    const names::Word w{names::word(0).load()};
    CHECK(w.state() == names::State::kTracked);
    names::word(0) = names::Word::make(names::State::kClaimed, process::mine(), w.hash(), w.generation()).raw;
  }
  Child dead;
};

// Recovery of one that had linked but not said so (`linked`), or had said what it was going to link.
class Recover final : public OfDead<Named> {
 public:
  explicit Recover(bool linked) : linked_(linked) {}
  void check() override {
    if (!linked_) link();
    ends(true);
  }

 private:
  void set_up() override {
    dead = killed_after([&] {
      link();
      unsay();
      if (!linked_) ::unlink(path_of(name).c_str());
    });
    if (linked_) return;
    close(fd);  // what has had a name cannot be given one again
    fd = unnamed();
  }
  bool linked_;
};

// --- directories ---

class InDirectory : public Scenario {
 public:
  void prepare() override {
    path = "/tmp/shoal-exhaust-" + std::to_string(getpid());
    abandon();  // what a case that was ended has left
    set_up();
  }
  void finish() override { abandon(); }
  void abandon() override {
    for (const char* name : {"last", "first", "file"}) ::unlink((path + "/" + name).c_str());
    rmdir(path.c_str());
  }

 protected:
  virtual void set_up() {}
  void make() const { CHECK(names::make_directory(path.c_str()) == arena::Status::kOk); }
  bool there() const { return access(path.c_str(), F_OK) == 0; }
  void bind_in_it(const char* name) const {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strcpy(address.sun_path, (path + "/" + name).c_str());
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
    close(fd);
  }
  // The end of the tree takes it away, with the sockets in it.
  void ends() const {
    CHECK(there() && none_claimed() && rows() == 1);
    bind_in_it("last");
    CHECK(names::remove_all() == 1);
    CHECK(!there() && rows() == 0);
  }
  std::string path;
};

class Make final : public InDirectory {
 public:
  void operate() override { names::make_directory(path.c_str()); }
  void check() override {
    CHECK(rows() == (there() ? 1 : 0));
    if (!there()) make();
    ends();
  }
};

// Somebody else has made it: it is his.
class MakeTaken final : public InDirectory {
 public:
  void operate() override { names::make_directory(path.c_str()); }
  void check() override { CHECK(rows() == 0 && names::remove_all() == 0 && there()); }

 private:
  void set_up() override { CHECK(mkdir(path.c_str(), 0700) == 0); }
};

// Who takes it away is killed in the middle of that, and another begins again. With a file in it that is not ours it stays.
class EndOfDirectory final : public InDirectory {
 public:
  explicit EndOfDirectory(bool shared) : shared_(shared) {}
  void operate() override { names::remove_all(); }
  void check() override {
    names::remove_all();
    CHECK(rows() == 0 && there() == shared_ && access((path + "/first").c_str(), F_OK) != 0);
    CHECK(access((path + "/file").c_str(), F_OK) == (shared_ ? 0 : -1));
  }

 private:
  void set_up() override {
    make();
    bind_in_it("first");
    if (shared_) close(open((path + "/file").c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
  }
  bool shared_;
};

// Recovery of one that had made it but not said so (`made`), or had said what it was going to make.
class RecoverMaker final : public OfDead<InDirectory> {
 public:
  explicit RecoverMaker(bool made) : made_(made) {}
  void check() override {
    CHECK(rows() == (made_ ? 1 : 0));
    if (!made_) make();
    ends();
  }

 private:
  void set_up() override {
    dead = killed_after([&] {
      make();
      unsay();
      names::row(0)->file = names::kByName | 7;
      if (!made_) rmdir(path.c_str());
    });
  }
  bool made_;
};

}  // namespace

std::vector<Entry> name_operations() {
  return {
      {"name.link", make<Link>},
      {"name.link.full-table", make<LinkInFullTable>},
      {"name.link.taken", make<LinkTaken>},
      {"name.forget", make<ForgetIt>},
      {"name.unlink", make<Unlink>},
      {"name.track", make<Track>},
      {"name.end", make<End>},
      {"name.recovery", make<Recover, true>},
      {"name.recovery.unlinked", make<Recover, false>},
      {"name.directory", make<Make>},
      {"name.directory.taken", make<MakeTaken>},
      {"name.directory.end", make<EndOfDirectory, false>},
      {"name.directory.end.shared", make<EndOfDirectory, true>},
      {"name.directory.recovery", make<RecoverMaker, true>},
      {"name.directory.recovery.unmade", make<RecoverMaker, false>},
  };
}

}  // namespace shoal::exhaust
