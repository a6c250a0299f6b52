// Floor 8: the numbers that lie in shared cells, by type code: read and written as ctypes does it, each in one load or store.
#pragma once

#include "bindings/python.hpp"

namespace shoal::bindings {

union Number {
  uint64_t whole;
  double real;
};

struct Scalar {
  char code;
  uint8_t bytes;
  Number (*load)(const void* at);
  void (*store)(void* at, Number n);
  Number (*sum)(Number a, Number b);  // nullptr: not a number to calculate with
  PyObject* (*object_of)(Number n);
  // False, and no exception, for what takes code of Python's to convert or cannot be converted: the ctypes object itself is to say.
  bool (*parse)(PyObject* value, Number& n);
  bool real;
  // Loops, each made for the type, for slices cost little but these. Between the numbers of an array, `stride` bytes apart, and `packed`, which has them one after the other:
  void (*gather)(const char* at, Py_ssize_t stride, char* packed, Py_ssize_t count);
  void (*scatter)(char* at, Py_ssize_t stride, const char* packed, Py_ssize_t count);
  // Fills a new list with what is packed. False with an exception set.
  bool (*fill)(PyObject* list, const char* packed, Py_ssize_t count);
};

// nullptr: no such code. The codes are those of ctypes on the machine: b B h H i I l L q Q f d, and ? for a bool.
const Scalar* scalar_of(char code);

}  // namespace shoal::bindings
