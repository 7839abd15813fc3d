// bfloat16, the upper half of a float32, for the loops of this folder.
#pragma once

#include <cstdint>
#include <cstring>

namespace {

struct Half {
  uint16_t bits;
};

inline float wide(float x) { return x; }

inline float wide(Half x) {
  const uint32_t bits = static_cast<uint32_t>(x.bits) << 16;
  float out;
  std::memcpy(&out, &bits, sizeof out);
  return out;
}

inline void narrow(float x, float* to) { *to = x; }

// To the nearest, ties to even; NaN stays NaN.
inline void narrow(float x, Half* to) {
  uint32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  const uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  to->bits = static_cast<uint16_t>(x != x ? 0x7fc0 : rounded);
}

}  // namespace
