// Causal attention within short sequences, forward and backward. `lines.py` compiles and calls it.
//
// Inputs and outputs are float32 or bfloat16, all between is float32. Every sequence and key/value head is worked on by
// itself, in what fits the innermost cache. Of scores only the vectors up to the diagonal are made, and weights behind
// it are 0. The backward pass makes the weights again.
//
// Shape letters: N tokens, H heads, K key/value heads, E width of a head, T tokens of a sequence, W vectors of a head.
#include <algorithm>
#include <vector>

#include "half.h"
#include "vectors.h"

namespace {

struct Shape {
  int64_t heads, kv_heads, size, q_stride, k_stride, v_stride;
};

// (T, E) of one head as vectors: W to a token, what stands behind the width stays 0.
template <typename T>
void read(const T* from, int64_t stride, int64_t tokens, int64_t size, int64_t width, Vector* to) {
  for (int64_t t = 0; t < tokens; ++t) {
    float* row = reinterpret_cast<float*>(to + t * width);
#pragma omp simd
    for (int64_t e = 0; e < size; ++e) row[e] = wide(from[t * stride + e]);
  }
}

template <typename T>
void write(const Vector* from, int64_t stride, int64_t tokens, int64_t size, int64_t width, T* to) {
  for (int64_t t = 0; t < tokens; ++t) {
    const float* row = reinterpret_cast<const float*>(from + t * width);
#pragma omp simd
    for (int64_t e = 0; e < size; ++e) narrow(row[e], &to[t * stride + e]);
  }
}

// (T, E) -> (E, T), rows of `filled` floats; what stands behind the last token stays what it is.
void turn(const Vector* from, int64_t tokens, int64_t size, int64_t width, int64_t filled, float* to) {
  const float* rows = reinterpret_cast<const float*>(from);
  for (int64_t t = 0; t < tokens; ++t)
    for (int64_t e = 0; e < size; ++e) to[e * filled + t] = rows[t * width * kLanes + e];
}

// to[t, s] = sum over e of left[t, e] right[e, s], for every s of the vectors up to t's; four rows at once.
void products_up_to_diagonal(const Vector* left, const float* right, int64_t tokens, int64_t size, int64_t width,
                             int64_t filled, float* to) {
  constexpr int64_t kRows = 4;
  for (int64_t t = 0; t < tokens; t += kRows) {
    const float* rows[kRows];
    for (int64_t r = 0; r < kRows; ++r)
      rows[r] = reinterpret_cast<const float*>(left + std::min(t + r, tokens - 1) * width);
    for (int64_t s = 0; s < std::min(t + kRows, tokens); s += kLanes) {
      Vector sums[kRows] = {};
      for (int64_t e = 0; e < size; ++e) {
        Vector column;
        std::memcpy(&column, right + e * filled + s, sizeof column);
        for (int64_t r = 0; r < kRows; ++r) sums[r] += rows[r][e] * column;
      }
      for (int64_t r = 0; r < kRows && t + r < tokens; ++r) std::memcpy(to + (t + r) * filled + s, &sums[r], sizeof(Vector));
    }
  }
}

// Scores to weights, row by row; those behind the diagonal become 0.
void softmax_rows(float* scores, int64_t tokens, int64_t filled, float scale) {
  for (int64_t t = 0; t < tokens; ++t) {
    float* row = scores + t * filled;
    const int64_t end = vectors_for(t + 1) * kLanes;
#pragma omp simd
    for (int64_t s = 0; s < end; ++s) row[s] = s <= t ? row[s] * scale : -INFINITY;
    const float scaled = 1.0f / exponentials(row, end, largest_of(row, end));
#pragma omp simd
    for (int64_t s = 0; s < end; ++s) row[s] *= scaled;
  }
}

// to[t] = sum over s <= t of weights[t, s] rows[s].
template <int64_t W>
void mix_before(const float* weights, const Vector* rows, int64_t tokens, int64_t width, int64_t filled, Vector* to) {
  const int64_t vectors = W ? W : width;
  for (int64_t t = 0; t < tokens; ++t) {
    const float* own = weights + t * filled;
    if constexpr (W != 0) {
      Vector sums[W] = {};
      for (int64_t s = 0; s <= t; ++s)
        for (int64_t v = 0; v < W; ++v) sums[v] += own[s] * rows[s * W + v];
      for (int64_t v = 0; v < W; ++v) to[t * W + v] = sums[v];
    } else {
      for (int64_t v = 0; v < vectors; ++v) {
        Vector sum = {};
        for (int64_t s = 0; s <= t; ++s) sum += own[s] * rows[s * vectors + v];
        to[t * vectors + v] = sum;
      }
    }
  }
}

// to[s] += sum over t >= s of weights[t, s] rows[t].
template <int64_t W>
void add_after(const float* weights, const Vector* rows, int64_t tokens, int64_t width, int64_t filled, Vector* to) {
  const int64_t vectors = W ? W : width;
  for (int64_t s = 0; s < tokens; ++s) {
    if constexpr (W != 0) {
      Vector sums[W];
      for (int64_t v = 0; v < W; ++v) sums[v] = to[s * W + v];
      for (int64_t t = s; t < tokens; ++t)
        for (int64_t v = 0; v < W; ++v) sums[v] += weights[t * filled + s] * rows[t * W + v];
      for (int64_t v = 0; v < W; ++v) to[s * W + v] = sums[v];
    } else {
      for (int64_t v = 0; v < vectors; ++v)
        for (int64_t t = s; t < tokens; ++t) to[s * vectors + v] += weights[t * filled + s] * rows[t * vectors + v];
    }
  }
}

// What a thread works in, for sequences of so many tokens at most.
struct Room {
  int64_t width, filled;
  std::vector<Vector> q, k, v, out, grad_k, grad_v;
  std::vector<float> turned, scores, grad_scores;

  Room(int64_t longest, int64_t size)
      : width(vectors_for(size)),
        filled(vectors_for(longest) * kLanes),
        q(longest * width), k(longest * width), v(longest * width), out(longest * width),
        grad_k(longest * width), grad_v(longest * width),
        turned(filled * size), scores(filled * longest), grad_scores(filled * longest) {}

  // Of the queries and keys that have been read.
  void weights(int64_t tokens, int64_t size, float scale) {
    turn(k.data(), tokens, size, width, filled, turned.data());
    products_up_to_diagonal(q.data(), turned.data(), tokens, size, width, filled, scores.data());
    softmax_rows(scores.data(), tokens, filled, scale);
  }
};

template <typename T, int64_t W>
void forward(const T* q, const T* k, const T* v, T* out, int64_t tokens, const Shape& shape, int64_t kv_head, Room& room) {
  const int64_t size = shape.size, share = shape.heads / shape.kv_heads;
  const float scale = 1.0f / std::sqrt(static_cast<float>(size));
  read(k + kv_head * size, shape.k_stride, tokens, size, room.width, room.k.data());
  read(v + kv_head * size, shape.v_stride, tokens, size, room.width, room.v.data());
  for (int64_t head = kv_head * share; head < (kv_head + 1) * share; ++head) {
    read(q + head * size, shape.q_stride, tokens, size, room.width, room.q.data());
    room.weights(tokens, size, scale);
    mix_before<W>(room.scores.data(), room.v.data(), tokens, room.width, room.filled, room.out.data());
    write(room.out.data(), shape.heads * size, tokens, size, room.width, out + head * size);
  }
}

// With P the weights, O the output and S the scores: dV = P' dO, dP = dO V', dS = P (dP - sum(P dP)), dQ = dS K,
// dK = dS' Q (Dao et al. 2022, B.2).
template <typename T, int64_t W>
void backward(const T* q, const T* k, const T* v, const T* grad, T* grad_q, T* grad_k, T* grad_v, int64_t tokens,
              const Shape& shape, int64_t kv_head, Room& room) {
  const int64_t size = shape.size, width = room.width, filled = room.filled, share = shape.heads / shape.kv_heads;
  const float scale = 1.0f / std::sqrt(static_cast<float>(size));
  read(k + kv_head * size, shape.k_stride, tokens, size, width, room.k.data());
  read(v + kv_head * size, shape.v_stride, tokens, size, width, room.v.data());
  std::memset(room.grad_k.data(), 0, tokens * width * sizeof(Vector));
  std::memset(room.grad_v.data(), 0, tokens * width * sizeof(Vector));
  for (int64_t head = kv_head * share; head < (kv_head + 1) * share; ++head) {
    read(q + head * size, shape.q_stride, tokens, size, width, room.q.data());
    room.weights(tokens, size, scale);
    Vector* grad_out = room.out.data();
    read(grad + head * size, shape.heads * size, tokens, size, width, grad_out);
    add_after<W>(room.scores.data(), grad_out, tokens, width, filled, room.grad_v.data());
    turn(room.v.data(), tokens, size, width, filled, room.turned.data());
    products_up_to_diagonal(grad_out, room.turned.data(), tokens, size, width, filled, room.grad_scores.data());
    for (int64_t t = 0; t < tokens; ++t) {
      const float* weights = &room.scores[t * filled];
      float *own = &room.grad_scores[t * filled], mean = 0;
      // Behind the diagonal, which may hold anything, nothing is read.
#pragma omp simd reduction(+ : mean)
      for (int64_t s = 0; s <= t; ++s) mean += weights[s] * own[s];
#pragma omp simd
      for (int64_t s = 0; s <= t; ++s) own[s] = weights[s] * (own[s] - mean) * scale;
    }
    add_after<W>(room.grad_scores.data(), room.q.data(), tokens, width, filled, room.grad_k.data());
    mix_before<W>(room.grad_scores.data(), room.k.data(), tokens, width, filled, grad_out);
    write(grad_out, shape.heads * size, tokens, size, width, grad_q + head * size);
  }
  write(room.grad_k.data(), shape.kv_heads * size, tokens, size, width, grad_k + kv_head * size);
  write(room.grad_v.data(), shape.kv_heads * size, tokens, size, width, grad_v + kv_head * size);
}

// Calls `work(first token, tokens, head, room)` for every sequence and key/value head.
template <typename Work>
void for_each(const int32_t* bounds, int64_t sequences, int64_t longest, const Shape& shape, int threads, Work work) {
#pragma omp parallel num_threads(threads)
  {
    Room room(longest, shape.size);
#pragma omp for schedule(dynamic, 4) collapse(2)
    for (int64_t sequence = 0; sequence < sequences; ++sequence)
      for (int64_t head = 0; head < shape.kv_heads; ++head)
        work(int64_t{bounds[sequence]}, int64_t{bounds[sequence + 1] - bounds[sequence]}, head, room);
  }
}

template <typename T>
void attend(const T* q, const T* k, const T* v, const int32_t* bounds, T* out, int64_t sequences, int64_t longest,
            const Shape& shape, int threads) {
  for_each(bounds, sequences, longest, shape, threads, [&](int64_t first, int64_t tokens, int64_t head, Room& room) {
    const auto forward_of = shape.size == 64   ? forward<T, 64 / kLanes>
                            : shape.size == 32 ? forward<T, 32 / kLanes>
                                               : forward<T, 0>;
    forward_of(q + first * shape.q_stride, k + first * shape.k_stride, v + first * shape.v_stride,
               out + first * shape.heads * shape.size, tokens, shape, head, room);
  });
}

template <typename T>
void gradients(const T* q, const T* k, const T* v, const int32_t* bounds, const T* grad, T* grad_q, T* grad_k, T* grad_v,
               int64_t sequences, int64_t longest, const Shape& shape, int threads) {
  const int64_t own = shape.heads * shape.size, of_kv = shape.kv_heads * shape.size;
  for_each(bounds, sequences, longest, shape, threads, [&](int64_t first, int64_t tokens, int64_t head, Room& room) {
    const auto backward_of = shape.size == 64   ? backward<T, 64 / kLanes>
                             : shape.size == 32 ? backward<T, 32 / kLanes>
                                                : backward<T, 0>;
    backward_of(q + first * shape.q_stride, k + first * shape.k_stride, v + first * shape.v_stride, grad + first * own,
                grad_q + first * own, grad_k + first * of_kv, grad_v + first * of_kv, tokens, shape, head, room);
  });
}

}  // namespace

// Each for float32 and for bfloat16. q: (N, H, E), k, v: (N, K, E), a stride from token to token; bounds: where each
// sequence begins, and the end; out, and grad of it: (N, H, E); the gradients are laid out without gaps.
extern "C" {

#define FOR_TYPE(suffix, T)                                                                                              \
  void attend_##suffix(const T* q, const T* k, const T* v, const int32_t* bounds, T* out, int64_t sequences,             \
                       int64_t longest, int64_t heads, int64_t kv_heads, int64_t size, int64_t q_stride,                 \
                       int64_t k_stride, int64_t v_stride, int threads) {                                                \
    attend(q, k, v, bounds, out, sequences, longest, {heads, kv_heads, size, q_stride, k_stride, v_stride}, threads);    \
  }                                                                                                                      \
  void gradients_##suffix(const T* q, const T* k, const T* v, const int32_t* bounds, const T* grad, T* grad_q,           \
                          T* grad_k, T* grad_v, int64_t sequences, int64_t longest, int64_t heads, int64_t kv_heads,     \
                          int64_t size, int64_t q_stride, int64_t k_stride, int64_t v_stride, int threads) {             \
    gradients(q, k, v, bounds, grad, grad_q, grad_k, grad_v, sequences, longest,                                         \
              {heads, kv_heads, size, q_stride, k_stride, v_stride}, threads);                                           \
  }

FOR_TYPE(float32, float)
FOR_TYPE(bfloat16, Half)
}
