// What an operation must say to be killed at every step: how to get ready for it, how to do it, and what must hold afterwards.
//
// Three kinds of process take part. The *survivor* makes the arena, forks the others, traces and judges. The *victim* performs the operation and is killed in
// it. *Peers* sleep on something that the victim, or recovery in its place, must wake them for.
#pragma once

#include <sys/types.h>

#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <vector>

#include "process/slots.hpp"
#include "sync/wait.hpp"

namespace shoal::exhaust {

// Ends this process with a violation; main.cpp tells at which point.
[[noreturn]] void violated(const char* file, int line, const char* what);
#define CHECK(condition)                                                          \
  do {                                                                            \
    if (!(condition)) ::shoal::exhaust::violated(__FILE__, __LINE__, #condition); \
  } while (false)

constexpr uint64_t kSecond = 1'000'000'000;

// A wait that nobody may need longer for.
inline sync::Wait soon() {
  sync::Wait wait;
  wait.deadline = os::now() + kSecond;
  return wait;
}
inline sync::Wait at_once() {
  sync::Wait wait;
  wait.deadline = 0;
  return wait;
}

struct Child {
  pid_t pid = 0;
  uint32_t slot = process::kNoSlot;
};

// A peer: forked, with a slot of its own; its exit status is what work() returns.
Child start(const std::function<int()>& work);
// The same, back when the child sleeps in the kernel with a node that says so.
Child start_and_wait_until_asleep(const std::function<int()>& work);
// Its exit status, which it must have within a second; its slot has been recovered then.
int result_of(const Child& child);
// A process that performs work() and is then killed; nobody has recovered it.
Child killed_after(const std::function<void()>& work);
// Gives back what a dead process had.
void recover(const Child& dead);

class Scenario {
 public:
  virtual ~Scenario() = default;

  virtual uint64_t quota() const { return 64ull << 20; }
  virtual bool from_birth() const { return false; }  // traced while it claims its slot, too

  virtual void prepare() {}        // survivor
  virtual void begin() {}          // victim, before it is traced
  virtual void before_steps() {}   // survivor, while the victim stands before its first step
  virtual void operate() = 0;      // victim
  virtual void victim_sleeps() {}  // survivor: makes it go on
  virtual void at_death() {}       // survivor, before recovery
  virtual void recover_victim() { recover(victim); }
  virtual void check() = 0;  // survivor, after recovery
  virtual void finish() {}   // survivor: lets go of what prepare() made
  virtual void abandon() {}  // survivor, in a case that ends before that: takes away what would stay in the file system

  Child victim;
  bool failing = false;  // one of the victim's system calls has failed
};

struct Entry {
  const char* name;
  std::unique_ptr<Scenario> (*make)();
};

template <class Kind, auto... arguments>
std::unique_ptr<Scenario> make() {
  return std::make_unique<Kind>(arguments...);
}

// One file for each family; main.cpp puts them together.
std::vector<Entry> lock_operations();
std::vector<Entry> wait_operations();
std::vector<Entry> put_operations();
std::vector<Entry> get_operations();
std::vector<Entry> bell_operations();
std::vector<Entry> task_operations();
std::vector<Entry> blob_operations();
std::vector<Entry> memory_operations();
std::vector<Entry> lifetime_operations();
std::vector<Entry> name_operations();
std::vector<Entry> stream_operations();
std::vector<Entry> recovery_operations();

}  // namespace shoal::exhaust
