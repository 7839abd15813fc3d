// Products of small blocks of bfloat16 with sums in float32, by the processor's matrix unit (AMX): 32 x 32 sums at
// once.
//
// A tile is 16 rows of 64 bytes. A left tile holds 32 numbers of the inner dimension k in each row. A right tile holds
// in row p, for 16 columns, the numbers 2p and 2p + 1 of k side by side. A panel is two tiles for every 32 of k.
// Without AMX the same is done by plain loops: slowly, for the tests of other processors.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "half.h"

#if defined(__AMX_BF16__) && !defined(EMULATED_TILES)
#define TILES_ARE_THERE 1
// Rows of 64 bytes are read as tiles' stores left them, at once: GCC's vectors of half that width had to wait for each
// other.
#pragma GCC target("prefer-vector-width=512")
#include <immintrin.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace {

constexpr int64_t kSide = 32;         // rows and columns of the sums, and numbers of k in a step
constexpr int64_t kTile = 16 * 32;    // numbers of a tile
constexpr int64_t kStep = 2 * kTile;  // numbers of a panel for 32 of k
constexpr int64_t kBlock = kSide * kSide;

constexpr int64_t steps_for(int64_t count) { return (count + kSide - 1) / kSide; }

#ifdef TILES_ARE_THERE

// The system must be asked once before a process uses tiles. Whether it lets us.
inline bool tiles_are_allowed() {
  constexpr int kAsk = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  return syscall(SYS_arch_prctl, kAsk, kTileData) == 0;
}

// Configures the thread's tiles, and leaves them as they were: oneDNN uses them too.
class TilesInUse {
 public:
  TilesInUse() {
    _tile_storeconfig(&before_);
    Config own = {};
    own.palette = 1;
    std::fill_n(own.bytes, 8, 64);
    std::fill_n(own.rows, 8, 16);
    _tile_loadconfig(&own);
  }
  ~TilesInUse() {
    if (before_.palette == 0)
      _tile_release();
    else
      _tile_loadconfig(&before_);
  }
  TilesInUse(const TilesInUse&) = delete;
  TilesInUse& operator=(const TilesInUse&) = delete;

 private:
  struct alignas(64) Config {
    uint8_t palette, start, reserved[14];
    uint16_t bytes[16];
    uint8_t rows[16];
  };
  Config before_;
};

// 16 rows of 16 numbers of 32 bits: rows become columns.
inline void turn(__m512i* rows) {
  __m512i pairs[16], fours[16];
  for (int i = 0; i < 16; i += 2) {
    pairs[i] = _mm512_unpacklo_epi32(rows[i], rows[i + 1]);
    pairs[i + 1] = _mm512_unpackhi_epi32(rows[i], rows[i + 1]);
  }
  for (int i = 0; i < 16; i += 4) {
    fours[i] = _mm512_unpacklo_epi64(pairs[i], pairs[i + 2]);
    fours[i + 1] = _mm512_unpackhi_epi64(pairs[i], pairs[i + 2]);
    fours[i + 2] = _mm512_unpacklo_epi64(pairs[i + 1], pairs[i + 3]);
    fours[i + 3] = _mm512_unpackhi_epi64(pairs[i + 1], pairs[i + 3]);
  }
  for (int i = 0; i < 4; ++i) {
    const __m512i even_low = _mm512_shuffle_i32x4(fours[i], fours[i + 4], 0x88);
    const __m512i odd_low = _mm512_shuffle_i32x4(fours[i], fours[i + 4], 0xdd);
    const __m512i even_high = _mm512_shuffle_i32x4(fours[i + 8], fours[i + 12], 0x88);
    const __m512i odd_high = _mm512_shuffle_i32x4(fours[i + 8], fours[i + 12], 0xdd);
    rows[i] = _mm512_shuffle_i32x4(even_low, even_high, 0x88);
    rows[i + 4] = _mm512_shuffle_i32x4(odd_low, odd_high, 0x88);
    rows[i + 8] = _mm512_shuffle_i32x4(even_low, even_high, 0xdd);
    rows[i + 12] = _mm512_shuffle_i32x4(odd_low, odd_high, 0xdd);
  }
}

inline __m512i rounded(__m512 low, __m512 high) { return (__m512i)_mm512_cvtne2ps_pbh(high, low); }

inline uint32_t first_bits(int64_t count) { return count >= 32 ? ~0u : count <= 0 ? 0u : (1u << count) - 1u; }

// 32 numbers as they lie, of which `count` are there.
inline __m512i read_32(const Half* from, int64_t count) { return _mm512_maskz_loadu_epi16(first_bits(count), from); }
inline __m512i read_32(const float* from, int64_t count) {
  const __m512 low = _mm512_maskz_loadu_ps(static_cast<__mmask16>(first_bits(count)), from);
  const __m512 high = _mm512_maskz_loadu_ps(static_cast<__mmask16>(first_bits(count) >> 16), from + 16);
  return rounded(low, high);
}

// 32 numbers written, of which `count` are wanted.
inline void write_32(const float* from, int64_t count, Half* to) {
  _mm512_mask_storeu_epi16(to, first_bits(count), rounded(_mm512_loadu_ps(from), _mm512_loadu_ps(from + 16)));
}
inline void write_32(const float* from, int64_t count, float* to) {
  _mm512_mask_storeu_ps(to, static_cast<__mmask16>(first_bits(count)), _mm512_loadu_ps(from));
  _mm512_mask_storeu_ps(to + 16, static_cast<__mmask16>(first_bits(count) >> 16), _mm512_loadu_ps(from + 16));
}

// 16 numbers of two rows side by side; `count` of each are there.
inline __m512i read_pairs(const Half* first, const Half* second, int64_t count) {
  const __mmask16 there = static_cast<__mmask16>(first_bits(count));
  const __m512i low = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(there, first));
  if (second == nullptr) return low;
  const __m512i high = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(there, second));
  return _mm512_or_si512(low, _mm512_slli_epi32(high, 16));
}
inline __m512i read_pairs(const float* first, const float* second, int64_t count) {
  const __mmask16 there = static_cast<__mmask16>(first_bits(count));
  const __m512 low = _mm512_maskz_loadu_ps(there, first);
  const __m512 high = second == nullptr ? _mm512_setzero_ps() : _mm512_maskz_loadu_ps(there, second);
  const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21,
                                         5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
  return _mm512_permutexvar_epi16(order, rounded(low, high));
}

// A tile of what stands in memory, `stride` numbers from row to row; what is not there becomes 0.
// kAlong: k runs along the rows of memory, else across them. kTurned: the tile's rows are memory's columns.
template <bool kAlong, bool kTurned, typename T>
inline void pack_tile(const T* from, int64_t stride, int64_t others, int64_t inner, uint16_t* to) {
  __m512i rows[16];
  for (int64_t i = 0; i < 16; ++i) {
    if constexpr (kAlong) {
      rows[i] = i < others ? read_32(from + i * stride, inner) : _mm512_setzero_si512();
    } else {
      const T* second = 2 * i + 1 < inner ? from + (2 * i + 1) * stride : nullptr;
      rows[i] = 2 * i < inner ? read_pairs(from + 2 * i * stride, second, others) : _mm512_setzero_si512();
    }
  }
  if constexpr (kTurned) turn(rows);
  for (int64_t i = 0; i < 16; ++i) _mm512_store_si512(to + i * 32, rows[i]);
}

// to (32 x 32, `stride` numbers from row to row) = left right, or += where `adding`; panels of so many steps. After
// each step `between` is called, for work that the processor does beside.
template <typename Between>
inline void multiply(const uint16_t* left, const uint16_t* right, int64_t steps, float* to, int64_t stride, bool adding,
                     Between between) {
  const int64_t bytes = 4 * stride;
  if (adding) {
    _tile_loadd(0, to, bytes);
    _tile_loadd(1, to + 16 * stride, bytes);
    _tile_loadd(2, to + 16, bytes);
    _tile_loadd(3, to + 16 * stride + 16, bytes);
  } else {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  }
  for (int64_t step = 0; step < steps; ++step, left += kStep, right += kStep) {
    _tile_loadd(4, left, 64);
    _tile_loadd(6, right, 64);
    _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(5, left + kTile, 64);
    _tile_dpbf16ps(1, 5, 6);
    between();
    _tile_loadd(7, right + kTile, 64);
    _tile_dpbf16ps(2, 4, 7);
    _tile_dpbf16ps(3, 5, 7);
  }
  _tile_stored(0, to, bytes);
  _tile_stored(1, to + 16 * stride, bytes);
  _tile_stored(2, to + 16, bytes);
  _tile_stored(3, to + 16 * stride + 16, bytes);
}

#else

inline bool tiles_are_allowed() {
#ifdef EMULATED_TILES
  return true;
#else
  return false;
#endif
}

struct TilesInUse {};

inline uint16_t bits_of(Half x) { return x.bits; }
inline uint16_t bits_of(float x) {
  Half half;
  narrow(x, &half);
  return half.bits;
}

template <typename T>
inline void write_32(const float* from, int64_t count, T* to) {
  for (int64_t i = 0; i < count; ++i) narrow(from[i], &to[i]);
}

template <bool kAlong, bool kTurned, typename T>
inline void pack_tile(const T* from, int64_t stride, int64_t others, int64_t inner, uint16_t* to) {
  for (int64_t other = 0; other < 16; ++other)
    for (int64_t k = 0; k < 32; ++k) {
      const bool there = other < others && k < inner;
      const uint16_t bits = there ? bits_of(kAlong ? from[other * stride + k] : from[k * stride + other]) : 0;
      to[kAlong != kTurned ? other * 32 + k : k / 2 * 32 + other * 2 + k % 2] = bits;
    }
}

template <typename Between>
inline void multiply(const uint16_t* left, const uint16_t* right, int64_t steps, float* to, int64_t stride, bool adding,
                     Between between) {
  for (int64_t step = 0; step < steps; ++step) between();
  for (int64_t m = 0; m < kSide; ++m)
    for (int64_t n = 0; n < kSide; ++n) {
      float sum = adding ? to[m * stride + n] : 0.0f;
      for (int64_t k = 0; k < steps * kSide; ++k) {
        const int64_t step = k / kSide * kStep, inner = k % kSide;
        const uint16_t a = left[step + m / 16 * kTile + m % 16 * 32 + inner];
        const uint16_t b = right[step + n / 16 * kTile + inner / 2 * 32 + n % 16 * 2 + inner % 2];
        sum += wide(Half{a}) * wide(Half{b});
      }
      to[m * stride + n] = sum;
    }
}

#endif

// A thread's memory, kept from call to call, that tiles are read from fast: its rows begin with a line of the cache.
template <typename T, int kUse>
T* scratch(int64_t count) {
  struct Freed {
    void operator()(void* data) const { std::free(data); }
  };
  thread_local std::unique_ptr<void, Freed> data;
  thread_local int64_t room = 0;
  if (const int64_t bytes = (count * sizeof(T) + 63) / 64 * 64; room < bytes) {
    data.reset();
    data.reset(std::aligned_alloc(64, bytes));
    room = data ? bytes : 0;
  }
  return static_cast<T*>(data.get());
}

// A panel of `others` rows (left) or columns (right), 32 at the most, and `inner` numbers of k.
template <bool kAlong, bool kLeft, typename T>
inline void pack(const T* from, int64_t stride, int64_t others, int64_t inner, uint16_t* to) {
  for (int64_t k = 0; k < inner; k += kSide, to += kStep)
    for (int64_t half = 0; half < 2; ++half) {
      const T* begin = kAlong ? from + 16 * half * stride + k : from + k * stride + 16 * half;
      pack_tile<kAlong, kAlong != kLeft>(begin, stride, others - 16 * half, inner - k, to + half * kTile);
    }
}

// Panels for every 32 of `others`, each of `inner` numbers of k, one after the other. Memory is read as it lies.
template <bool kAlong, bool kLeft, typename T>
inline void pack_panels(const T* from, int64_t stride, int64_t others, int64_t inner, uint16_t* to) {
  const int64_t panel = steps_for(inner) * kStep, at_once = kAlong ? inner : kSide;
  for (int64_t k = 0; k < inner; k += at_once)
    for (int64_t other = 0; other < others; other += kSide) {
      const T* begin = kAlong ? from + other * stride : from + k * stride + other;
      pack<kAlong, kLeft>(begin, stride, others - other, std::min(at_once, inner - k),
                          to + other / kSide * panel + k / kSide * kStep);
    }
}

}  // namespace
