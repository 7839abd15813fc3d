// Causal attention within sequences, forward and backward, by the tiles of `tiles.h`. `matrices.py` compiles and calls
// it.
//
// Inputs and outputs are bfloat16, sums and softmax float32. Every sequence and key/value head is worked on by itself:
// keys and values are packed once, then queries go through in strips of 32 that see the keys up to their own. The
// backward pass makes the weights again, from the logarithms of their sums.
//
// Shape letters: N tokens, H heads, K key/value heads, E width of a head, T tokens of a sequence.
#include "tiles.h"
#include "vectors.h"

namespace {

constexpr int64_t kStrips = 4;  // of queries whose part of the keys' gradients is added at once

struct Shape {
  int64_t heads, kv_heads, size, q_stride, k_stride, v_stride;
  float scale() const { return 1.0f / std::sqrt(static_cast<float>(size)); }
};

// Panels for every 32 of `others`, each of `inner` numbers of k.
template <bool kAlong, bool kLeft>
struct Panels {
  uint16_t* data;
  int64_t panel;

  Panels(uint16_t* room, int64_t inner) : data(room), panel(steps_for(inner) * kStep) {}

  void fill(const Half* from, int64_t stride, int64_t others, int64_t inner) {
    pack_panels<kAlong, kLeft>(from, stride, others, inner, data);
  }
  uint16_t* at(int64_t number, int64_t step = 0) const { return data + number * panel + step * kStep; }
};

using Rows = Panels<true, true>;             // left, k along them
using Columns = Panels<true, false>;         // right: memory's rows become columns
using ColumnsAcross = Panels<false, false>;  // right, as memory's columns

// Takes room for tiles from a thread's memory, one piece after the other.
template <typename T>
struct Room {
  T* next;
  T* take(int64_t count) {
    T* taken = next;
    next += count;
    return taken;
  }
};

// Where the 32 numbers of one row and step of a left panel stand.
inline uint16_t* left_row(uint16_t* panel, int64_t row, int64_t step) {
  return panel + step * kStep + row / 16 * kTile + row % 16 * kSide;
}

// `left` (32 rows) times each of the right panels up to `count`: side by side, `stride` from row to row.
inline void products(const uint16_t* left, const Columns& right, int64_t count, int64_t steps, float* to,
                     int64_t stride) {
  for (int64_t panel = 0; panel < count; ++panel)
    multiply(left, right.at(panel), steps, to + panel * kSide, stride, false, [] {});
}

void forward(const Half* q, const Half* k, const Half* v, Half* out, float* log_sums, int64_t tokens,
             const Shape& shape, int64_t kv_head) {
  const int64_t size = shape.size, share = shape.heads / shape.kv_heads, stride = shape.heads * size;
  const int64_t strips = steps_for(tokens), filled = strips * kSide, steps = steps_for(size), width = steps * kSide;
  Room<uint16_t> room{scratch<uint16_t, 0>(2 * filled * width + kSide * width + kSide * filled)};
  Room<float> numbers{scratch<float, 1>(kSide * filled + kBlock)};
  Columns keys(room.take(filled * width), size);
  ColumnsAcross values(room.take(filled * width), tokens);
  uint16_t *query = room.take(kSide * width), *weights = room.take(kSide * filled);
  float *scores = numbers.take(kSide * filled), *sums = numbers.take(kBlock);
  keys.fill(k + kv_head * size, shape.k_stride, tokens, size);
  values.fill(v + kv_head * size, shape.v_stride, size, tokens);
  for (int64_t head = kv_head * share; head < (kv_head + 1) * share; ++head)
    for (int64_t strip = 0; strip < strips; ++strip) {
      const int64_t first = strip * kSide, rows = std::min(kSide, tokens - first);
      pack<true, true>(q + first * shape.q_stride + head * size, shape.q_stride, rows, size, query);
      products(query, keys, strip + 1, steps, scores, filled);
      float scaled[kSide] = {};
      for (int64_t row = 0; row < kSide; ++row) {
        float* own = scores + row * filled;
        const int64_t end = first + kSide;
        const float factor = shape.scale();
#pragma omp simd
        for (int64_t s = 0; s < end; ++s) own[s] *= factor;
        std::fill(own + first + row + 1, own + end, -INFINITY);
        const float largest = largest_of(own, end), sum = exponentials(own, end, largest);
        scaled[row] = 1.0f / sum;
        if (row < rows) log_sums[head * tokens + first + row] = largest + std::log(sum);
        for (int64_t step = 0; step <= strip; ++step)
          write_32(own + step * kSide, kSide, reinterpret_cast<Half*>(left_row(weights, row, step)));
      }
      for (int64_t e = 0; e < size; e += kSide) {
        multiply(weights, values.at(e / kSide), strip + 1, sums, kSide, false, [] {});
        for (int64_t row = 0; row < rows; ++row) {
          float* own = sums + row * kSide;
#pragma omp simd
          for (int64_t i = 0; i < kSide; ++i) own[i] *= scaled[row];
          write_32(own, std::min(kSide, size - e), out + (first + row) * stride + head * size + e);
        }
      }
    }
}

// What one key/value head's backward pass works in. It makes the gradients of queries at once, and adds up those of
// keys and values over the queries of `kStrips` strips.
//
// With P the weights, O the output and S the scores: dV = P' dO, dP = dO V', dS = P (dP - sum(dO O)), dQ = dS K,
// dK = dS' Q (Dao et al. 2022, B.2).
struct Backward {
  const Shape& shape;
  int64_t tokens, size = shape.size, strips = steps_for(tokens), filled = strips * kSide;
  int64_t steps = steps_for(size), width = steps * kSide;
  Room<uint16_t> room{scratch<uint16_t, 0>((5 * filled + 2 * kSide) * width + (1 + 2 * kStrips) * kSide * filled)};
  Room<float> numbers{scratch<float, 1>(2 * (kSide + width) * filled + kBlock)};
  Columns keys{room.take(filled * width), size}, values{room.take(filled * width), size};
  ColumnsAcross keys_across{room.take(filled * width), tokens}, queries{room.take(filled * width), tokens};
  ColumnsAcross grads{room.take(filled * width), tokens};
  uint16_t *query = room.take(kSide * width), *grad_out = room.take(kSide * width);
  uint16_t* grad_scores = room.take(kSide * filled);
  // Rows of 32 keys each, over the queries of some strips.
  Rows weights_turned{room.take(kStrips * kSide * filled), kStrips * kSide};
  Rows grads_turned{room.take(kStrips * kSide * filled), kStrips * kSide};
  float *scores = numbers.take(kSide * filled), *of_weights = numbers.take(kSide * filled);
  float *sum_k = numbers.take(filled * width), *sum_v = numbers.take(filled * width), *sums = numbers.take(kBlock);

  Backward(const Shape& given, int64_t count) : shape(given), tokens(count) {}

  // Of the keys and values that queries are about to meet.
  void begin(const Half* k, const Half* v) {
    keys.fill(k, shape.k_stride, tokens, size);
    values.fill(v, shape.v_stride, tokens, size);
    keys_across.fill(k, shape.k_stride, size, tokens);
    std::memset(sum_k, 0, sizeof(float) * filled * width);
    std::memset(sum_v, 0, sizeof(float) * filled * width);
  }

  // All of one head's queries, and what comes of them for keys and values.
  void add_head(const Half* q, const Half* out, const float* log_sums, const Half* grad, Half* grad_q) {
    const int64_t stride = shape.heads * size;
    queries.fill(q, shape.q_stride, size, tokens);
    grads.fill(grad, stride, size, tokens);
    for (int64_t group = 0; group < strips; group += kStrips) {
      const int64_t end = std::min(strips, group + kStrips);
      for (int64_t strip = group; strip < end; ++strip) {
        const int64_t first = strip * kSide, rows = std::min(kSide, tokens - first), at = first * stride;
        pack<true, true>(q + first * shape.q_stride, shape.q_stride, rows, size, query);
        pack<true, true>(grad + at, stride, rows, size, grad_out);
        products(query, keys, strip + 1, steps, scores, filled);
        products(grad_out, values, strip + 1, steps, of_weights, filled);
        for (int64_t row = 0; row < kSide; ++row)
          to_gradient(row, strip, row < rows ? log_sums + first + row : nullptr, grad + at + row * stride,
                      out + at + row * stride);
        for (int64_t e = 0; e < size; e += kSide) {
          multiply(grad_scores, keys_across.at(e / kSide), strip + 1, sums, kSide, false, [] {});
          for (int64_t row = 0; row < rows; ++row)
            write_32(sums + row * kSide, std::min(kSide, size - e), grad_q + at + row * stride + e);
        }
        for (int64_t panel = 0; panel < end; ++panel) turn_to_rows(panel, strip, strip - group);
      }
      for (int64_t panel = 0; panel < end; ++panel)
        for (int64_t e = 0; e < size; e += kSide) {
          const int64_t place = panel * kSide * width + e;
          multiply(weights_turned.at(panel), grads.at(e / kSide, group), end - group, sum_v + place, width, true,
                   [] {});
          multiply(grads_turned.at(panel), queries.at(e / kSide, group), end - group, sum_k + place, width, true,
                   [] {});
        }
    }
  }

  // A row's scores become weights, the weights' gradients those of the scores. No log_sum: the row is filler.
  void to_gradient(int64_t row, int64_t strip, const float* log_sum, const Half* own_grad, const Half* own_out) {
    float *weights = scores + row * filled, *gradients = of_weights + row * filled;
    const int64_t end = (strip + 1) * kSide, seen = log_sum == nullptr ? 0 : strip * kSide + row + 1;
    if (log_sum != nullptr) {
      const float factor = shape.scale();
      float mean = 0;
#pragma omp simd reduction(+ : mean)
      for (int64_t e = 0; e < size; ++e) mean += wide(own_grad[e]) * wide(own_out[e]);
#pragma omp simd
      for (int64_t s = 0; s < end; ++s) {
        weights[s] = exp_of(weights[s] * factor - *log_sum);
        gradients[s] = weights[s] * (gradients[s] - mean) * factor;
      }
    }
    std::fill(weights + seen, weights + end, 0.0f);
    std::fill(gradients + seen, gradients + end, 0.0f);
    for (int64_t step = 0; step <= strip; ++step)
      write_32(gradients + step * kSide, kSide, reinterpret_cast<Half*>(left_row(grad_scores, row, step)));
  }

  // The strip's weights and gradients of 32 keys, as rows of keys.
  void turn_to_rows(int64_t panel, int64_t strip, int64_t step) {
    uint16_t *of_weight = weights_turned.at(panel, step), *of_grad = grads_turned.at(panel, step);
    if (panel > strip) {  // keys behind the strip's queries
      std::memset(of_weight, 0, sizeof(uint16_t) * kStep);
      std::memset(of_grad, 0, sizeof(uint16_t) * kStep);
      return;
    }
    pack<false, true>(scores + panel * kSide, filled, kSide, kSide, of_weight);
    pack<false, true>(of_weights + panel * kSide, filled, kSide, kSide, of_grad);
  }

  void write(const float* from, Half* to) const {
    for (int64_t row = 0; row < tokens; ++row)
      for (int64_t e = 0; e < size; e += kSide)
        write_32(from + row * width + e, std::min(kSide, size - e), to + row * shape.kv_heads * size + e);
  }
};

void backward(const Half* q, const Half* k, const Half* v, const Half* out, const float* log_sums, const Half* grad,
              Half* grad_q, Half* grad_k, Half* grad_v, int64_t tokens, const Shape& shape, int64_t kv_head) {
  const int64_t share = shape.heads / shape.kv_heads, size = shape.size;
  Backward own(shape, tokens);
  own.begin(k + kv_head * size, v + kv_head * size);
  for (int64_t head = kv_head * share; head < (kv_head + 1) * share; ++head)
    own.add_head(q + head * size, out + head * size, log_sums + head * tokens, grad + head * size,
                 grad_q + head * size);
  own.write(own.sum_k, grad_k + kv_head * size);
  own.write(own.sum_v, grad_v + kv_head * size);
}

// Calls `work(first token, tokens, head)` for every sequence and key/value head.
template <typename Work>
void for_each(const int32_t* bounds, int64_t sequences, const Shape& shape, int threads, Work work) {
#pragma omp parallel num_threads(threads)
  {
    [[maybe_unused]] const TilesInUse tiles;
#pragma omp for schedule(dynamic, 1) collapse(2)
    for (int64_t sequence = 0; sequence < sequences; ++sequence)
      for (int64_t head = 0; head < shape.kv_heads; ++head)
        work(int64_t{bounds[sequence]}, int64_t{bounds[sequence + 1] - bounds[sequence]}, head);
  }
}

}  // namespace

// q: (N, H, E), k, v: (N, K, E), a stride from token to token; bounds: where each sequence begins, and the end; out,
// and grad of it: (N, H, E); log_sums: of each sequence (H, T), one after the other; the gradients are laid out without
// gaps.
extern "C" {

int are_there() { return tiles_are_allowed(); }

void attend(const Half* q, const Half* k, const Half* v, const int32_t* bounds, Half* out, float* log_sums,
            int64_t sequences, int64_t heads, int64_t kv_heads, int64_t size, int64_t q_stride, int64_t k_stride,
            int64_t v_stride, int threads) {
  const Shape shape = {heads, kv_heads, size, q_stride, k_stride, v_stride};
  for_each(bounds, sequences, shape, threads, [&](int64_t first, int64_t tokens, int64_t kv_head) {
    forward(q + first * q_stride, k + first * k_stride, v + first * v_stride, out + first * heads * size,
            log_sums + first * heads, tokens, shape, kv_head);
  });
}

void gradients(const Half* q, const Half* k, const Half* v, const int32_t* bounds, const Half* out,
               const float* log_sums, const Half* grad, Half* grad_q, Half* grad_k, Half* grad_v, int64_t sequences,
               int64_t heads, int64_t kv_heads, int64_t size, int64_t q_stride, int64_t k_stride, int64_t v_stride,
               int threads) {
  const Shape shape = {heads, kv_heads, size, q_stride, k_stride, v_stride};
  for_each(bounds, sequences, shape, threads, [&](int64_t first, int64_t tokens, int64_t kv_head) {
    const int64_t own = first * heads * size, of_kv = first * kv_heads * size;
    backward(q + first * q_stride, k + first * k_stride, v + first * v_stride, out + own, log_sums + first * heads,
             grad + own, grad_q + own, grad_k + of_kv, grad_v + of_kv, tokens, shape, kv_head);
  });
}
}
