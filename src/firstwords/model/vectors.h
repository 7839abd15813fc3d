// What the loops of this folder share: vectors of float32, and exponentials that the compiler makes vectors of.

#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

namespace {

// As wide as the processor's: GCC keeps wider ones in memory between operations, which took four times as long.
#if defined(__AVX512F__)
constexpr int64_t kLanes = 16;
#elif defined(__AVX__)
constexpr int64_t kLanes = 8;
#else
constexpr int64_t kLanes = 4;
#endif

typedef float Vector __attribute__((vector_size(4 * kLanes)));

constexpr int64_t vectors_for(int64_t count) { return (count + kLanes - 1) / kLanes; }

// e^x for x <= 0, NaN for NaN; within 2e-7 of it, and 0 below -87. By Cody and Waite: x = n log 2 + r.
// The compiler makes vectors of it, which it does not of the library's.
inline float exp_of(float x) {
  const float above = x < -87.0f ? -87.0f : x;
  const float n = std::rint(above * 1.44269504f);
  const float r = (above - n * 0.693359375f) + n * 2.12194440e-4f;
  float p = 1.0f / 5040;
  p = p * r + 1.0f / 720;
  p = p * r + 1.0f / 120;
  p = p * r + 1.0f / 24;
  p = p * r + 1.0f / 6;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  const int32_t bits = (static_cast<int32_t>(n) + 127) << 23;
  float power;
  std::memcpy(&power, &bits, sizeof power);
  return x < -87.0f ? 0.0f : p * power;
}

// exp(values - largest) in place; returns their sum.
inline float exponentials(float* values, int64_t count, float largest) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < count; ++i) {
    values[i] = exp_of(values[i] - largest);
    sum += values[i];
  }
  return sum;
}

inline float largest_of(const float* values, int64_t count) {
  float largest = -INFINITY;
#pragma omp simd reduction(max : largest)
  for (int64_t i = 0; i < count; ++i) largest = values[i] > largest ? values[i] : largest;
  return largest;
}

}  // namespace
