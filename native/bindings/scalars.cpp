#include "bindings/scalars.hpp"

#include <atomic>
#include <cstring>
#include <type_traits>

namespace shoal::bindings {

namespace {

// Whole numbers lose the bits that have no place, as in ctypes.
template <class T>
Number load(const void* at) {
  const T value = std::atomic_ref<T>(*static_cast<T*>(const_cast<void*>(at))).load(std::memory_order_relaxed);
  Number n;
  if constexpr (std::is_floating_point_v<T>)
    n.real = static_cast<double>(value);
  else
    n.whole = static_cast<uint64_t>(value);
  return n;
}

template <class T>
void store(void* at, Number n) {
  T value;
  if constexpr (std::is_floating_point_v<T>)
    value = static_cast<T>(n.real);
  else
    value = static_cast<T>(n.whole);
  std::atomic_ref<T>(*static_cast<T*>(at)).store(value, std::memory_order_relaxed);
}

Number sum_of_whole(Number a, Number b) { return {.whole = a.whole + b.whole}; }
Number sum_of_real(Number a, Number b) { return {.real = a.real + b.real}; }

PyObject* signed_object(Number n) { return PyLong_FromLongLong(static_cast<long long>(n.whole)); }
PyObject* unsigned_object(Number n) { return PyLong_FromUnsignedLongLong(n.whole); }
PyObject* real_object(Number n) { return PyFloat_FromDouble(n.real); }
PyObject* bool_object(Number n) { return PyBool_FromLong(n.whole != 0 ? 1 : 0); }

bool parse_whole(PyObject* value, Number& n) {
  if (!PyLong_Check(value)) return false;
  n.whole = PyLong_AsUnsignedLongLongMask(value);
  return true;
}

bool parse_real(PyObject* value, Number& n) {
  if (PyFloat_CheckExact(value)) {
    n.real = PyFloat_AS_DOUBLE(value);
    return true;
  }
  if (!PyLong_CheckExact(value)) return false;
  n.real = PyLong_AsDouble(value);
  if (n.real != -1.0 || PyErr_Occurred() == nullptr) return true;
  PyErr_Clear();
  return false;
}

bool parse_bool(PyObject* value, Number& n) {
  if (!PyBool_Check(value) && !PyLong_CheckExact(value)) return false;
  n.whole = PyObject_IsTrue(value) > 0 ? 1 : 0;
  return true;
}

template <class T>
void gather(const char* at, Py_ssize_t stride, char* packed, Py_ssize_t count) {
  if (stride == sizeof(T)) {
    std::memcpy(packed, at, static_cast<size_t>(count) * sizeof(T));
    return;
  }
  for (Py_ssize_t i = 0; i < count; ++i, at += stride) std::memcpy(packed + i * sizeof(T), at, sizeof(T));
}

template <class T>
void scatter(char* at, Py_ssize_t stride, const char* packed, Py_ssize_t count) {
  if (stride == sizeof(T)) {
    std::memcpy(at, packed, static_cast<size_t>(count) * sizeof(T));
    return;
  }
  for (Py_ssize_t i = 0; i < count; ++i, at += stride) std::memcpy(at, packed + i * sizeof(T), sizeof(T));
}

template <class T, PyObject* (*object_of)(Number)>
bool fill(PyObject* list, const char* packed, Py_ssize_t count) {
  for (Py_ssize_t i = 0; i < count; ++i) {
    PyObject* item = object_of(load<T>(packed + i * sizeof(T)));
    if (item == nullptr) return false;
    PyList_SET_ITEM(list, i, item);
  }
  return true;
}

template <class T>
constexpr Scalar whole(char code) {
  constexpr auto object_of = std::is_signed_v<T> ? signed_object : unsigned_object;
  return {code,        sizeof(T), load<T>,   store<T>,   sum_of_whole,      object_of,
          parse_whole, false,     gather<T>, scatter<T>, fill<T, object_of>};
}

template <class T>
constexpr Scalar real(char code) {
  return {code,       sizeof(T), load<T>,   store<T>,   sum_of_real,         real_object,
          parse_real, true,      gather<T>, scatter<T>, fill<T, real_object>};
}

constexpr Scalar kBool = {'?',
                          sizeof(bool),
                          load<unsigned char>,
                          store<unsigned char>,
                          nullptr,
                          bool_object,
                          parse_bool,
                          false,
                          gather<unsigned char>,
                          scatter<unsigned char>,
                          fill<unsigned char, bool_object>};

constexpr Scalar kScalars[] = {
    whole<signed char>('b'),
    whole<unsigned char>('B'),
    whole<short>('h'),
    whole<unsigned short>('H'),
    whole<int>('i'),
    whole<unsigned int>('I'),
    whole<long>('l'),
    whole<unsigned long>('L'),
    whole<long long>('q'),
    whole<unsigned long long>('Q'),
    real<float>('f'),
    real<double>('d'),
    kBool,
};

}  // namespace

const Scalar* scalar_of(char code) {
  for (const Scalar& s : kScalars)
    if (s.code == code) return &s;
  return nullptr;
}

}  // namespace shoal::bindings
