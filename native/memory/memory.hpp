// Floor 6: memory as an object: what shared ctypes lie in. It is all zeros at birth and lives as long as anybody holds the object.
//
// Small memory lies in the object's own cell. Larger memory is a blob that belongs to the object: its word says KEPT, the object's body names it. The name is
// written before the word changes, so at any time either the maker owns the blob or the object leads to it.
#pragma once

#include "blob/blob.hpp"
#include "object/object.hpp"

namespace shoal::memory {

struct Memory {
  std::atomic<uint64_t> blob;  // its name; 0: the bytes are in `here`
  uint64_t bytes;
  alignas(64) char here[384];
};
static_assert(sizeof(Memory) <= sizeof(object::Cell::body), "the rest of an object's cell");

constexpr uint64_t kMostHere = sizeof(Memory::here);

// Makes an object with so many bytes of memory, held by this process.
arena::Status create(uint64_t bytes, uint32_t& index, uint32_t& generation);

// Where the bytes of an object that is held are, on a cache line; nullptr: no address space.
char* address(uint32_t index);
uint64_t size(uint32_t index);

// What it weighs beside an object without memory, in objects: a hint for whoever decides when to look after retired ones.
uint32_t weight(uint32_t index);

// Gives the memory back; of an object that is being destroyed, or whose maker died before it was published. Idempotent.
void destroy(uint32_t index);

}  // namespace shoal::memory
