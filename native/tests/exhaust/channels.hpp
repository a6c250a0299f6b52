// Numbered messages: number n is n times the word n, inline or in a blob.
#pragma once

#include <cstring>

#include "held.hpp"

namespace shoal::exhaust {

constexpr uint32_t kBlobPayload = 20'000;  // bytes: five pages of a blob

struct Letter {
  bool blob = false;
  uint32_t words = 1;
};

inline channel::Result put_number(uint32_t index, uint64_t number, Letter letter, sync::Wait wait) {
  uint64_t words[channel::kInline / 8];
  for (uint32_t i = 0; i < letter.words; ++i) words[i] = number;
  channel::Message m;
  m.tag = number;
  if (!letter.blob) {
    m.data = words;
    m.bytes = letter.words * 8;
    return channel::put(index, m, wait);
  }
  if (blob::allocate(kBlobPayload, 0, m.blob) != arena::Status::kOk) return channel::Result::kNoMemory;
  m.blob_bytes = kBlobPayload;
  char* data = blob::payload(blob::head(m.blob));
  std::memcpy(data, words, 8);
  std::memcpy(data + kBlobPayload - 8, words, 8);
  const channel::Result r = channel::put(index, m, wait);
  if (r != channel::Result::kDone) blob::free_owned(m.blob, process::mine());
  return r;
}

// The number of the next message, whose content has been looked at; 0: none came.
inline uint64_t get_number(uint32_t index, sync::Wait wait) {
  char buffer[channel::kInline];
  channel::Taken out;
  out.buffer = buffer;
  if (channel::get(index, out, wait) != channel::Result::kDone) return 0;
  uint64_t first = 0, last = 0;
  if (out.blob.there()) {
    const blob::Word w = blob::load(out.blob);
    CHECK(w.state() == blob::State::kOwned && w.owner() == process::mine() && w.generation() == out.blob.generation());
    blob::Head* h = blob::head(out.blob);
    CHECK(h != nullptr && h->payload_bytes == kBlobPayload);
    std::memcpy(&first, blob::payload(h), 8);
    std::memcpy(&last, blob::payload(h) + kBlobPayload - 8, 8);
    recovery::let_go(out.blob, process::mine());
  } else {
    CHECK(out.bytes >= 8);
    std::memcpy(&first, buffer, 8);
    std::memcpy(&last, buffer + out.bytes - 8, 8);
  }
  CHECK(first == out.tag && last == out.tag);
  return out.tag;
}

inline uint32_t puts(uint32_t index) { return channel::Position{channel::at(index)->ring.tail.load()}.count(); }
inline uint32_t gets(uint32_t index) { return channel::Position{channel::at(index)->ring.head.load()}.count(); }

// Messages from `number` on are all there, in order, whole, and nothing else; new ones get through.
inline void drain(uint32_t index, uint64_t number, uint64_t last, Letter letter = {}) {
  CHECK(channel::length(channel::at(index)->ring) == last + 1 - number);
  for (; number <= last; ++number) CHECK(get_number(index, soon()) == number);
  CHECK(get_number(index, at_once()) == 0);
  for (uint64_t more : {101, 102}) CHECK(put_number(index, more, letter, soon()) == channel::Result::kDone);
  for (uint64_t more : {101, 102}) CHECK(get_number(index, soon()) == more);
  CHECK(get_number(index, at_once()) == 0);
}

}  // namespace shoal::exhaust
