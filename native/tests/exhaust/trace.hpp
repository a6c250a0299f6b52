// The victim, one instruction at a time.
//
// A first run is stepped through and gives the list of points: each instruction after which the arena looked different, and both sides of each system call. A
// point is an instruction's address and how often it had been executed, so a later run gets there with a breakpoint, at full speed.
#pragma once

#include <vector>

#include "scenario.hpp"

namespace shoal::exhaust {

enum class When : uint32_t { kStart, kAfterStore, kBeforeCall, kAfterCall, kAsleep, kEnd };

struct Point {
  When when;
  uint32_t nth;      // execution of the instruction, from 1
  uint64_t address;  // of the instruction
  uint64_t place;    // what changed first in the arena, its offset; 0: nothing did
  long call;         // number of the system call, or -1
};

// Why single-stepping is impossible here; nullptr: it works.
const char* why_not();

// In the victim.
void be_traced();
inline void mark() {
#if defined(__x86_64__)
  asm volatile("int3" ::: "memory");
#endif
}

// In the survivor. The victim stands at its first mark.
void wait_for_mark(pid_t victim);
void record(Scenario& scenario, std::vector<Point>& points);
// Gets the victim to the point; false: it went another way (time plays a part in some), and stands somewhere else.
bool advance(Scenario& scenario, const Point& point);

// The victim stands before a system call. The errors by which that may fail, in which the kernel is not asked at all; none for calls that cannot fail.
std::vector<int> errors_of_call(pid_t victim);
// Makes it fail, and lets the victim go on; false: it did not come to its end, but gave up in a CHECK of its own.
bool fail_call(Scenario& scenario, int error);
// How many robust mutexes it holds, its life token among them.
uint32_t mutexes_held(pid_t victim);

// 'S' of /proc: it sleeps in the kernel.
bool sleeps(pid_t pid);

}  // namespace shoal::exhaust
