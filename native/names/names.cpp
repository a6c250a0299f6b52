#include "names/names.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "arena/cells.hpp"
#include "process/slots.hpp"

namespace shoal::names {

namespace {

constexpr char kSharedMemory[] = "/dev/shm/";  // where glibc and musl look
constexpr uint32_t kWords = (kLongest + 8) / 8;
constexpr arena::TableShape kShape = {
    arena::kNameTable, arena::kNames, 64, {{arena::kNameWordsAt, 8}, {arena::kNamesAt, arena::kNameBytes}, {0, 0}}};
thread_local uint32_t hint_ = 0;

bool is_directory(const char* name) { return *name == '/'; }

struct Path {
  char text[sizeof kSharedMemory + kLongest];
  explicit Path(const char* name) {
    std::snprintf(text, sizeof text, "%s%s", is_directory(name) ? "" : kSharedMemory, name);
  }
};

// A name as rows keep it: words, zeros after its end.
struct Text {
  uint64_t words[kWords] = {};
  uint32_t hash = 2166136261u;
  explicit Text(const char* name) {
    std::memcpy(words, name, std::strlen(name));
    for (const char* c = name; *c != 0; ++c) hash = (hash ^ static_cast<unsigned char>(*c)) * 16777619u;  // FNV-1a
    hash = (hash ^ hash >> 24) & 0xffffff;
  }
};

int fault_of_length(const char* text) { return std::strlen(text) > kLongest ? ENAMETOOLONG : 0; }

int fault_of(const char* name) {
  return *name == 0 || std::strchr(name, '/') != nullptr ? EINVAL : fault_of_length(name);
}

arena::Status failed(int error) {
  arena::last_failure() = {0, 0, 0, error};
  return arena::Status::kSystem;
}

bool has(const Row& r, const Text& text) {
  for (uint32_t i = 0; i < kWords; ++i)
    if (r.text[i].load(std::memory_order_relaxed) != text.words[i]) return false;
  return true;
}

Path path_of(const Row& r) {
  uint64_t words[kWords];
  for (uint32_t i = 0; i < kWords; ++i) words[i] = r.text[i].load(std::memory_order_relaxed);
  return Path(reinterpret_cast<const char*>(words));
}
bool is_directory(const Row& r) { return (r.text[0].load(std::memory_order_relaxed) & 0xff) == '/'; }

// Whether it is what a row speaks of.
bool is_meant(const Row& r, uint64_t file, const struct stat& s) {
  if ((file & kByName) == 0) return s.st_ino == file && s.st_dev == r.device.load(std::memory_order_relaxed);
  return !is_directory(r) || (S_ISDIR(s.st_mode) && (s.st_mode & 077) == 0 && s.st_uid == geteuid());
}

// Whether the file that a row speaks of still bears the name.
bool is_there(const Row& r, uint64_t file) {
  struct stat s;
  return fstatat(AT_FDCWD, path_of(r).text, &s, AT_SYMLINK_NOFOLLOW) == 0 && is_meant(r, file, s);
}

enum class Removal { kDone, kNotOurs, kNotNow };  // kNotNow: no descriptor or no memory for it

Removal refused() {
  return errno == EMFILE || errno == ENFILE || errno == ENOMEM ? Removal::kNotNow : Removal::kNotOurs;
}

// Sockets in a directory that nobody else may enter are ours. Whatever else is there somebody has put there, and will want to find.
Removal remove_directory(const Row& r, uint64_t file) {
  const Path path = path_of(r);
  const int fd = open(path.text, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0) return refused();
  struct stat s;
  errno = 0;
  DIR* directory = fstat(fd, &s) == 0 && is_meant(r, file, s) ? fdopendir(fd) : nullptr;
  if (directory == nullptr) {
    const Removal why = refused();
    close(fd);
    return why;
  }
  while (const dirent* entry = readdir(directory))
    if (fstatat(fd, entry->d_name, &s, AT_SYMLINK_NOFOLLOW) == 0 && S_ISSOCK(s.st_mode)) unlinkat(fd, entry->d_name, 0);
  closedir(directory);
  return rmdir(path.text) == 0 ? Removal::kDone : Removal::kNotOurs;
}

Removal remove_file(const Row& r, uint64_t file) {
  return is_there(r, file) && unlink(path_of(r).text) == 0 ? Removal::kDone : Removal::kNotOurs;
}

// Frees a row that tracks nothing. The generation in the word makes it harmless to do so twice, or late.
void free_row(uint32_t index, Word w) {
  if (word(index).compare_exchange_strong(w.raw, Word::make(State::kFree, 0, 0, w.generation()).raw)) hint_ = index;
}

// Takes back what row `index` tracks, if it is still `file`. Inodes of shared memory are not used twice, so an old look cannot hit a new file.
bool take_back(uint32_t index, Row& r, Word w, uint64_t file) {
  if (!r.file.compare_exchange_strong(file, 0)) return false;
  // A claimed row is its claimer's to free, who looks at the file once more after publishing. It may have published since `w` was read.
  const Word now{word(index).load()};
  if (now.state() == State::kTracked && now.generation() == w.generation()) free_row(index, now);
  return true;
}

// Calls f(index, row, word, file) for each row that tracks something.
template <class F>
void for_each(F f) {
  const uint32_t end = arena::grown(arena::kNameTable);
  for (uint32_t i = 0; i < end; ++i) {
    const Word w{word(i).load()};
    if (w.state() == State::kFree) continue;
    Row* r = row(i);
    if (r == nullptr) continue;
    if (const uint64_t file = r->file.load(); file != 0) f(i, *r, w, file);
  }
}

// The same for rows of one name.
template <class F>
void for_each_of(const char* name, F f) {
  const Text text(name);
  const uint32_t end = arena::grown(arena::kNameTable);
  for (uint32_t i = 0; i < end; ++i) {
    const Word w{word(i).load()};
    if (w.state() == State::kFree || w.hash() != text.hash) continue;
    Row* r = row(i);
    if (r == nullptr) continue;
    const uint64_t file = r->file.load();  // first: it is written after the text
    if (file == 0 || !has(*r, text) || word(i).load() != w.raw) continue;
    f(i, *r, w, file);
  }
}

// Frees rows whose file has been unlinked by somebody who does not know of rows, and those of processes killed while they forgot.
bool sweep() {
  const uint32_t end = arena::grown(arena::kNameTable);
  uint32_t freed = 0;
  for (uint32_t i = 0; i < end; ++i) {
    const Word w{word(i).load()};
    if (w.state() != State::kTracked) continue;
    Row* r = row(i);
    if (r == nullptr) continue;
    const uint64_t file = r->file.load();
    if (file == 0)
      free_row(i, w);
    else if ((file & kByName) != 0 || is_there(*r, file) || !take_back(i, *r, w, file))
      continue;
    ++freed;
  }
  return freed != 0;
}

// A row of this process's with the name in it, tracking nothing yet.
arena::Status claim(const Text& text, uint32_t& index, Word& claimed) {
  const arena::Status status = arena::claim_cell(
      kShape, hint_, [](uint32_t i) { return Word{word(i).load(std::memory_order_relaxed)}.state() == State::kFree; },
      [&](uint32_t i) {
        Word w{word(i).load()};
        claimed = Word::make(State::kClaimed, process::mine(), text.hash, w.generation() + 1);
        return w.state() == State::kFree && word(i).compare_exchange_strong(w.raw, claimed.raw);
      },
      index, sweep);
  if (status != arena::Status::kOk) return status;
  Row* r = row(index);
  if (r == nullptr) {
    free_row(index, claimed);
    return arena::Status::kSystem;
  }
  for (uint32_t i = 0; i < kWords; ++i) r->text[i].store(text.words[i], std::memory_order_relaxed);
  return arena::Status::kOk;
}

// Tracks whatever will bear the name.
uint64_t by_name(uint32_t index, Word claimed) {
  return kByName | static_cast<uint64_t>(claimed.generation()) << 16 | index;
}

void publish(uint32_t index, Word claimed) {
  const Word tracked = Word::make(State::kTracked, 0, claimed.hash(), claimed.generation());
  word(index).store(tracked.raw);
  if (row(index)->file.load() == 0) free_row(index, tracked);  // forgotten by another before it was published
}

arena::Status link_at(int fd, const char* name) {
  const Path to(name);
  if (linkat(fd, "", AT_FDCWD, to.text, AT_EMPTY_PATH) == 0) return arena::Status::kOk;
  if (errno != ENOENT && errno != EPERM) return failed(errno);
  // Before Linux 6.10 that is for the privileged; everybody may take the way through /proc.
  char from[32];
  std::snprintf(from, sizeof from, "/proc/self/fd/%d", fd);
  return linkat(AT_FDCWD, from, AT_FDCWD, to.text, AT_SYMLINK_FOLLOW) == 0 ? arena::Status::kOk : failed(errno);
}

}  // namespace

std::atomic<uint64_t>& word(uint32_t index) {
  return *arena::at_table<std::atomic<uint64_t>>(arena::kNameWordsAt, index);
}

Row* row(uint32_t index) {
  return reinterpret_cast<Row*>(arena::cell(arena::kNamesAt + index * arena::kNameBytes, arena::kNameBytes));
}

arena::Status link(int fd, const char* name) {
  struct stat s;
  if (const int fault = fault_of(name); fault != 0) return failed(fault);
  if (fstat(fd, &s) != 0) return failed(errno);
  uint32_t index = 0;
  Word claimed{};
  if (const arena::Status status = claim(Text(name), index, claimed); status != arena::Status::kOk) return status;
  Row& r = *row(index);
  r.device.store(s.st_dev, std::memory_order_relaxed);
  r.file.store(s.st_ino);
  if (const arena::Status status = link_at(fd, name); status != arena::Status::kOk) {
    r.file.store(0);
    free_row(index, claimed);
    return status;
  }
  publish(index, claimed);
  return arena::Status::kOk;
}

arena::Status link_untracked(int fd, const char* name) {
  const int fault = fault_of(name);
  return fault != 0 ? failed(fault) : link_at(fd, name);
}

arena::Status track(const char* name) {
  if (const int fault = fault_of(name); fault != 0) return failed(fault);
  struct stat s;
  const bool there = fstatat(AT_FDCWD, Path(name).text, &s, AT_SYMLINK_NOFOLLOW) == 0;
  bool known = false;
  for_each_of(name, [&](uint32_t, Row& r, Word, uint64_t file) { known = known || !there || is_there(r, file); });
  if (known) return arena::Status::kOk;
  uint32_t index = 0;
  Word claimed{};
  if (const arena::Status status = claim(Text(name), index, claimed); status != arena::Status::kOk) return status;
  Row& r = *row(index);
  r.device.store(there ? s.st_dev : 0, std::memory_order_relaxed);
  r.file.store(there ? s.st_ino : by_name(index, claimed));
  publish(index, claimed);
  return arena::Status::kOk;
}

arena::Status make_directory(const char* path) {
  if (!is_directory(path)) return failed(EINVAL);
  if (const int fault = fault_of_length(path); fault != 0) return failed(fault);
  struct stat s;
  if (fstatat(AT_FDCWD, path, &s, AT_SYMLINK_NOFOLLOW) == 0)
    return failed(EEXIST);  // before it could be taken for ours
  uint32_t index = 0;
  Word claimed{};
  if (const arena::Status status = claim(Text(path), index, claimed); status != arena::Status::kOk) return status;
  Row& r = *row(index);
  uint64_t file = by_name(index, claimed);
  r.file.store(file);
  if (mkdir(path, 0700) != 0) {
    const int error = errno;
    r.file.store(0);
    free_row(index, claimed);
    return failed(error);
  }
  // From here on the directory can be told by more than its name.
  if (fstatat(AT_FDCWD, path, &s, AT_SYMLINK_NOFOLLOW) == 0 && (s.st_ino & kByName) == 0) {
    r.device.store(s.st_dev, std::memory_order_relaxed);
    r.file.compare_exchange_strong(file, s.st_ino);
  }
  publish(index, claimed);
  return arena::Status::kOk;
}

uint32_t forget(const char* name, Forget what) {
  uint32_t count = 0;
  if (fault_of_length(name) != 0) return count;
  for_each_of(name, [&](uint32_t i, Row& r, Word w, uint64_t file) {
    if (what == Forget::kGone && is_there(r, file)) return;
    count += take_back(i, r, w, file) ? 1 : 0;
  });
  return count;
}

bool is_tracked(const char* name) {
  bool found = false;
  if (fault_of_length(name) == 0)
    for_each_of(name, [&](uint32_t, Row& r, Word, uint64_t file) { found = found || is_there(r, file); });
  return found;
}

void recover(uint32_t dead) {
  const uint32_t end = arena::grown(arena::kNameTable);
  for (uint32_t i = 0; i < end; ++i) {
    Word w{word(i).load()};
    Row* r = w.state() == State::kFree ? nullptr : row(i);
    if (r == nullptr) continue;
    const uint64_t file = r->file.load();
    if (w.state() == State::kTracked) {
      if (file == 0) free_row(i, w);  // its process may have been killed between the two
      continue;
    }
    if (w.owner() != dead) continue;
    // What was tracked by its name may come yet, but for a directory, whose maker is dead.
    const bool awaited = (file & kByName) != 0 && !is_directory(*r);
    if (file != 0 && (awaited || is_there(*r, file))) {
      publish(i, w);
    } else {
      r->file.store(0);
      free_row(i, w);
    }
  }
}

bool is_anything_tracked() {
  bool found = false;
  for_each([&](uint32_t, Row&, Word, uint64_t) { found = true; });
  return found;
}

uint32_t remove_all() {
  uint32_t removed = 0;
  for_each([&](uint32_t i, Row& r, Word w, uint64_t file) {
    const Removal removal = is_directory(r) ? remove_directory(r, file) : remove_file(r, file);
    removed += removal == Removal::kDone ? 1 : 0;
    if (removal != Removal::kNotNow) take_back(i, r, w, file);
  });
  return removed;
}

}  // namespace shoal::names
