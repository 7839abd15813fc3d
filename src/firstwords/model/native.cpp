// Loops between the products of a model that scores on a CPU, in float32. `native.py` compiles and calls them.
//
// Shape letters: N nodes of a tree (tokens with all that stands before them), H heads, K key/value heads, E width of a
// head, F width of the feed-forward layer, r rows of logits, v a tile of the vocabulary.
#include <vector>

#include "vectors.h"

namespace {

constexpr int64_t kNodesAtOnce = 64;

// The sum of a vector's entries, halves upon halves.
inline float total(const Vector& vector) {
  float parts[kLanes];
  std::memcpy(parts, &vector, sizeof parts);
  for (int64_t half = kLanes / 2; half > 0; half /= 2)
    for (int64_t i = 0; i < half; ++i) parts[i] += parts[i + half];
  return parts[0];
}

// What is turned by its position's angle: each pair (x[i], x[i + E/2]).
inline void rotate(const float* x, const float* cosines, const float* sines, int64_t size, float* to) {
  const int64_t half = size / 2;
#pragma omp simd
  for (int64_t i = 0; i < half; ++i) {
    to[i] = x[i] * cosines[i] - x[i + half] * sines[i];
    to[i + half] = x[i + half] * cosines[i] + x[i] * sines[i];
  }
}

// What `attend_along_tree` is given; `width` floats are a node's queries, keys and values.
struct Tree {
  const float *qkv, *cosines, *sines;
  const int64_t* positions;
  float* out;
  int64_t nodes, heads, kv_heads, size, depth, width;
};

// The keys and values of one head along the way from the root to a node. W: as of `attend`.
template <int64_t W>
struct Way {
  std::vector<Vector> keys, values;
  const Tree& tree;
  int64_t key, vectors;

  Way(const Tree& tree, int64_t vectors)
      : keys(tree.depth * vectors), values(tree.depth * vectors), tree(tree), key(0), vectors(vectors) {}

  void enter(int64_t node) {
    const int64_t size = W ? W * kLanes : tree.size, at = tree.positions[node] * vectors;
    const float* from = tree.qkv + node * tree.width + key;
    rotate(from, tree.cosines + node * size, tree.sines + node * size, size, reinterpret_cast<float*>(&keys[at]));
    std::memcpy(&values[at], from + tree.kv_heads * size, size * sizeof(float));
  }

  // The ways to `node`, which is not entered itself: the last node before it at each lower place.
  void lead_to(int64_t node) {
    int64_t wanted = tree.positions[node] - 1;
    for (int64_t at = node - 1; wanted >= 0; --at)
      if (tree.positions[at] == wanted) enter(at), --wanted;
  }
};

// One key/value head and its queries, for some nodes. W: vectors that hold a head, where the compiler is to know it.
template <int64_t W>
void attend(const Tree& tree, int64_t kv_head, int64_t first, int64_t last) {
  const int64_t size = W ? W * kLanes : tree.size;
  const int64_t vectors = vectors_for(size), share = tree.heads / tree.kv_heads;
  const float scale = 1.0f / std::sqrt(static_cast<float>(size));
  Way<W> way(tree, vectors);
  way.key = (tree.heads + kv_head) * size;
  way.lead_to(first);
  // What stands behind a head's width stays 0; weights of keys behind a node's place become 0.
  std::vector<Vector> query(vectors), sum(vectors), weights(vectors_for(tree.depth));
  float* weight = reinterpret_cast<float*>(weights.data());
  for (int64_t node = first; node < last; ++node) {
    way.enter(node);
    const int64_t count = tree.positions[node] + 1, filled = vectors_for(count) * kLanes;
    for (int64_t head = kv_head * share; head < (kv_head + 1) * share; ++head) {
      rotate(tree.qkv + node * tree.width + head * size, tree.cosines + node * size, tree.sines + node * size, size,
             reinterpret_cast<float*>(query.data()));
      for (int64_t i = 0; i < count; ++i) {
        const Vector* key = &way.keys[i * vectors];
        Vector products = query[0] * key[0];
        for (int64_t v = 1; v < vectors; ++v) products += query[v] * key[v];
        weight[i] = scale * total(products);
      }
      for (int64_t i = count; i < filled; ++i) weight[i] = -INFINITY;
      const float scaled = 1.0f / exponentials(weight, filled, largest_of(weight, filled));
      for (int64_t v = 0; v < vectors; ++v) {
        Vector mixed = weight[0] * way.values[v];
        for (int64_t i = 1; i < count; ++i) mixed += weight[i] * way.values[i * vectors + v];
        sum[v] = mixed * scaled;
      }
      std::memcpy(tree.out + (node * tree.heads + head) * size, sum.data(), size * sizeof(float));
    }
  }
}

}  // namespace

extern "C" {

// Every node attends to itself and all that lead to it from the root of its text.
//
// qkv: (N, H + 2K, E), not yet rotated. cosines, sines: (N, E). positions: (N,), of nodes in the order in which one
// walks through the tree: a node's parent is the last before it that stands one place lower. depth: more than any of
// them. out: (N, H, E).
void attend_along_tree(const float* qkv, const float* cosines, const float* sines, const int64_t* positions, float* out,
                       int64_t nodes, int64_t heads, int64_t kv_heads, int64_t size, int64_t depth, int threads) {
  const Tree tree{qkv, cosines, sines, positions, out, nodes, heads, kv_heads, size, depth, (heads + 2 * kv_heads) * size};
  const auto attend_of = size == 64    ? attend<64 / kLanes>
                         : size == 32  ? attend<32 / kLanes>
                         : size == 128 ? attend<128 / kLanes>
                                       : attend<0>;
  const int64_t parts = (nodes + kNodesAtOnce - 1) / kNodesAtOnce;
#pragma omp parallel for schedule(dynamic) num_threads(threads)
  for (int64_t part = 0; part < parts; ++part) {
    const int64_t first = part * kNodesAtOnce, last = first + kNodesAtOnce < nodes ? first + kNodesAtOnce : nodes;
    for (int64_t head = 0; head < kv_heads; ++head) attend_of(tree, head, first, last);
  }
}

// x += added, and then x / rms(x) * weight into out. x, added, out: (N, D); weight: (D,).
void add_and_norm(float* x, const float* added, const float* weight, float* out, int64_t nodes, int64_t width, float eps,
                  int threads) {
#pragma omp parallel for schedule(static) num_threads(threads)
  for (int64_t node = 0; node < nodes; ++node) {
    float *own = x + node * width, *to = out + node * width;
    const float* more = added + node * width;
    float squares = 0;
#pragma omp simd reduction(+ : squares)
    for (int64_t i = 0; i < width; ++i) {
      own[i] += more[i];
      squares += own[i] * own[i];
    }
    const float scale = 1.0f / std::sqrt(squares / width + eps);
#pragma omp simd
    for (int64_t i = 0; i < width; ++i) to[i] = own[i] * scale * weight[i];
  }
}

// silu(gate) * up. gate_up: (N, 2F), gates first; out: (N, F).
void swiglu(const float* gate_up, float* out, int64_t nodes, int64_t width, int threads) {
#pragma omp parallel for schedule(static) num_threads(threads)
  for (int64_t node = 0; node < nodes; ++node) {
    const float *gate = gate_up + 2 * node * width, *up = gate + width;
    float* to = out + node * width;
#pragma omp simd
    for (int64_t i = 0; i < width; ++i) {
      // Of -|x|, whose exponential cannot overflow.
      const float small = exp_of(-std::fabs(gate[i]));
      to[i] = gate[i] * (gate[i] < 0 ? small : 1.0f) / (1.0f + small) * up[i];
    }
  }
}

// log of the sum of each row's exponentials, (r,). logits: (r, v), written over.
void log_sums(float* logits, float* out, int64_t rows, int64_t width, int threads) {
#pragma omp parallel for schedule(static) num_threads(threads)
  for (int64_t row = 0; row < rows; ++row) {
    float* own = logits + row * width;
    const float largest = largest_of(own, width);
    out[row] = largest + std::log(exponentials(own, width, largest));
  }
}
}
