// Floor 3: what the tree answers for in the file system: named shared memory (files in /dev/shm), and the directories that it has made for sockets. Whoever
// is there when the tree's last process has gone (the watcher) removes what is still tracked then, and nothing else: a row says not only the name but which
// file bears it. A name of shared memory has no slash in it, the path of a directory begins with one.
//
//   FREE --link, track, make_directory--> CLAIMED(by slot) --> TRACKED --forget--> FREE, next generation
//
// What is tracked is said by one word, `file`: 0 is nothing. The claim is the row's owner word; the rest of a row is written under the claim and does not
// change until the row is free again. Segments in the sense of channels have nothing to do with these.
#pragma once

#include <atomic>
#include <cstdint>

#include "arena/arena.hpp"

namespace shoal::names {

constexpr uint32_t kLongest = 255;  // bytes: NAME_MAX, which shm_open keeps to; a socket's path may have 107

enum class State : uint32_t { kFree = 0, kClaimed = 1, kTracked = 2 };

// generation 24 | hash of the name 24 | slot that claims 12 | state 4
struct Word {
  uint64_t raw;
  State state() const { return static_cast<State>(raw & 0xf); }
  uint32_t owner() const { return static_cast<uint32_t>(raw >> 4 & 0xfff); }
  uint32_t hash() const { return static_cast<uint32_t>(raw >> 16 & 0xffffff); }
  uint32_t generation() const { return static_cast<uint32_t>(raw >> 40); }
  static Word make(State state, uint32_t owner, uint32_t hash, uint32_t generation) {
    return {static_cast<uint64_t>(generation & 0xffffff) << 40 | static_cast<uint64_t>(hash & 0xffffff) << 16 |
            static_cast<uint64_t>(owner & 0xfff) << 4 | static_cast<uint64_t>(state)};
  }
};

struct Row {
  std::atomic<uint64_t> file;    // inode; 0: nothing is tracked; kByName set: whatever bears the name
  std::atomic<uint64_t> device;  // of the inode
  std::atomic<uint64_t> text[(kLongest + 8) / 8];
};
static_assert(sizeof(Row) <= arena::kNameBytes, "rows lie kNameBytes apart");
constexpr uint64_t kByName = 1ull << 63;

std::atomic<uint64_t>& word(uint32_t index);
Row* row(uint32_t index);  // nullptr when the kernel refuses to map it

// Gives the file behind `fd`, which has no name yet, this name in /dev/shm; tracked from the moment that it has it. kSystem with the
// error EEXIST in last_failure() if the name is taken, EINVAL if it is none.
arena::Status link(int fd, const char* name);
// The same for a file that the tree does not answer for. Needs no arena.
arena::Status link_untracked(int fd, const char* name);
// From now on the tree answers for the name: for the file that bears it now, or, if none does, for whichever will at the end.
arena::Status track(const char* name);
// Makes a directory that only this user may enter; tracked from the moment that it is there. The path is an absolute one that nobody else will think of: for
// the time of this call the path alone says which directory it is.
arena::Status make_directory(const char* path);

// kGone: only rows whose file does not bear the name any more, as after an unlink.
enum class Forget { kAll, kGone };
// Returns how many rows it was that said so.
uint32_t forget(const char* name, Forget what);
bool is_tracked(const char* name);

// What a dead process was about to track: is tracked if it got as far as the link, or the directory.
void recover(uint32_t dead);
// Removes what is tracked, of a tree that has ended: files, and directories with the sockets in them, if there is nothing else. Returns how many. What there is
// no descriptor for at the moment stays tracked.
uint32_t remove_all();
bool is_anything_tracked();

}  // namespace shoal::names
