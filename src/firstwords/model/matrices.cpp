// The three products of a layer in training, in bfloat16 with sums in float32, by the tiles of `tiles.h`. `matrices.py`
// compiles and calls it.
//
// out (M, N) = left (M, K) right (K, N). Each thread makes a rectangle of `out`. For some columns and some of k it
// packs the right factor, which its second cache holds; then, strip after strip, the left one. Every sum is made in the
// same order whatever the number of threads.
#include <cmath>
#include <type_traits>

#include "tiles.h"

namespace {

constexpr int64_t kPacked = 768 * 1024;  // numbers of the right factor at once: 1.5 MiB
constexpr int64_t kOuter = 2048;         // of k at once
constexpr int64_t kInner = 512;          // of k in a strip of the left factor: 128 KiB of
constexpr int64_t kRows = 128;           // so many rows, 256 bytes of memory's where k runs across them

struct Range {
  int64_t begin, end;
  int64_t size() const { return end - begin; }
};

// One of `parts` of a range, all of whole panels and of nearly the same size.
Range part_of(Range whole, int64_t part, int64_t parts) {
  const int64_t panels = steps_for(whole.size());
  const auto at = [&](int64_t number) { return std::min(whole.end, whole.begin + panels * number / parts * kSide); };
  return {at(part), at(part + 1)};
}

int64_t parts_of(int64_t count, int64_t most) { return std::max<int64_t>(1, (count + most - 1) / most); }

// How many of the threads share the rows; the others share the columns. What costs time beside the products is packing.
int64_t threads_on_rows(int64_t rows, int64_t columns, int64_t threads, double row_cost, double column_cost) {
  const auto panels = [](int64_t count, int64_t sharing) { return double(parts_of(steps_for(count), sharing)); };
  int64_t best = 1;
  double least = INFINITY;
  for (int64_t on_rows = 1; on_rows <= threads; ++on_rows) {
    if (threads % on_rows != 0) continue;
    const double down = panels(rows, on_rows), across = panels(columns, threads / on_rows);
    const double cost = down * across + row_cost * down + column_cost * across;
    if (cost < least) least = cost, best = on_rows;
  }
  return best;
}

template <bool kLeftAlong, typename Left, bool kRightAlong, typename Right, typename Out>
struct Product {
  const Left* left;
  int64_t left_stride;
  const Right* right;
  int64_t right_stride;
  Out* out;
  int64_t out_stride;
  int64_t rows, columns, inner;

  // A block of sums that is to be rounded and written, while the next one is made.
  struct Waiting {
    const float* sums;
    Out* to;
    int64_t rows, columns;
  };

  // What of the left factor is packed next: 64 bytes of each row of memory for every 32 columns.
  struct Next {
    const Left* at;
    int64_t stride, rows, lines, line;

    void fetch(int64_t count) {
      for (; count > 0 && rows > 0; --count) {
        __builtin_prefetch(at + line * kSide);
        if (++line == lines) line = 0, --rows, at += stride;
      }
    }
  };

  void make(int threads, double row_cost, double column_cost) const {
    const int64_t on_rows = threads_on_rows(rows, columns, threads, row_cost, column_cost);
    const int64_t on_columns = threads / on_rows;
#pragma omp parallel for num_threads(threads) schedule(static, 1)
    for (int64_t part = 0; part < threads; ++part)
      rectangle(part_of({0, rows}, part / on_columns, on_rows), part_of({0, columns}, part % on_columns, on_columns));
  }

  void rectangle(Range m, Range n) const {
    if (m.size() == 0 || n.size() == 0) return;  // more threads than panels
    [[maybe_unused]] const TilesInUse tiles;
    const int64_t of_k = parts_of(inner, kOuter), of_n = parts_of(n.size(), kPacked / std::min(kOuter, inner));
    for (int64_t n_part = 0; n_part < of_n; ++n_part) {
      const Range columns_now = part_of(n, n_part, of_n);
      const int64_t panels = steps_for(columns_now.size());
      float* sums = scratch<float, 0>((of_k > 1 ? steps_for(m.size()) * kSide : kRows) * panels * kSide);
      Waiting waiting = {};
      for (int64_t k_part = 0; k_part < of_k; ++k_part) {
        const Range k = part_of({0, inner}, k_part, of_k);
        const uint16_t* packed = packed_right(columns_now, k);
        for (int64_t row = m.begin; row < m.end; row += kRows)
          strip({row, std::min(m.end, row + kRows)}, columns_now, k, packed,
                sums + (of_k > 1 ? row - m.begin : 0) * panels * kSide, waiting);
      }
      write_some(waiting, kSide);
    }
  }

  const uint16_t* packed_right(Range n, Range k) const {
    uint16_t* packed = scratch<uint16_t, 1>(steps_for(n.size()) * steps_for(k.size()) * kStep);
    const Right* from =
        kRightAlong ? right + n.begin * right_stride + k.begin : right + k.begin * right_stride + n.begin;
    pack_panels<kRightAlong, false>(from, right_stride, n.size(), k.size(), packed);
    return packed;
  }

  // Some rows of `out` and some columns; what comes of some k, added to what there is of smaller ones.
  void strip(Range m, Range n, Range k, const uint16_t* packed, float* sums, Waiting& waiting) const {
    uint16_t* left_panels = scratch<uint16_t, 2>(kInner * kRows);
    const int64_t of_k = parts_of(k.size(), kInner), right_panel = steps_for(k.size()) * kStep;
    for (int64_t k_part = 0; k_part < of_k; ++k_part) {
      const Range now = part_of(k, k_part, of_k);
      const int64_t steps = steps_for(now.size()), left_panel = steps * kStep;
      const Left* from =
          kLeftAlong ? left + m.begin * left_stride + now.begin : left + now.begin * left_stride + m.begin;
      pack_panels<kLeftAlong, true>(from, left_stride, m.size(), now.size(), left_panels);
      Next next = after(m, k, k_part, of_k);
      const int64_t blocks = steps_for(n.size()) * steps_for(m.size());
      const int64_t each = parts_of(next.rows * next.lines, blocks * steps);
      // Column after column: what is written lies side by side.
      for (int64_t row = m.begin; row < m.end; row += kSide) {
        const uint16_t* own_left = left_panels + (row - m.begin) / kSide * left_panel;
        for (int64_t column = n.begin; column < n.end; column += kSide) {
          const int64_t number = (column - n.begin) / kSide;
          const uint16_t* own_right = packed + number * right_panel + (now.begin - k.begin) * kSide;
          Out* to = out + row * out_stride + column;
          if constexpr (std::is_same_v<Out, float>) {
            if (row + kSide <= m.end && column + kSide <= n.end) {  // summed where it belongs
              multiply(own_left, own_right, steps, to, out_stride, now.begin > 0, [&] { next.fetch(each); });
              continue;
            }
          }
          // Sums of all k at once are written out before the next take their place.
          const int64_t place = inner <= kInner ? 0 : (row - m.begin) / kSide * steps_for(n.size()) + number;
          float* block = sums + place * kBlock;
          multiply(own_left, own_right, steps, block, kSide, now.begin > 0,
                   [&] { write_some(waiting, parts_of(kSide, steps)); });
          if (now.end == inner) waiting = {block, to, std::min(kSide, m.end - row), std::min(kSide, n.end - column)};
        }
      }
    }
  }

  // The processor foresees what it reads along memory's rows, but not what it reads across them.
  Next after(Range m, Range k, int64_t k_part, int64_t of_k) const {
    const bool same_rows = k_part + 1 < of_k;
    const Range coming = same_rows ? m : Range{m.end, std::min(m.end + kRows, rows)};
    if (kLeftAlong || coming.size() == 0) return {};
    const Range of = part_of(k, same_rows ? k_part + 1 : 0, of_k);
    return {left + of.begin * left_stride + coming.begin, left_stride, of.size(), steps_for(coming.size()), 0};
  }

  void write_some(Waiting& waiting, int64_t rows_now) const {
    for (; rows_now > 0 && waiting.rows > 0;
         --rows_now, --waiting.rows, waiting.sums += kSide, waiting.to += out_stride)
      write_32(waiting.sums, waiting.columns, waiting.to);
  }
};

}  // namespace

extern "C" {

int are_there() { return tiles_are_allowed(); }

// y (N, O) = x (N, I) weight (O, I)'.
void product(const Half* x, const float* weight, Half* y, int64_t rows, int64_t inputs, int64_t outputs,
             int64_t x_stride, int64_t weight_stride, int threads) {
  Product<true, Half, true, float, Half>{x, x_stride, weight, weight_stride, y, outputs, rows, outputs, inputs}.make(
      threads, 1, 4);
}

// gradient of x (N, I) = gradient of y (N, O) weight (O, I).
void gradient_of_inputs(const Half* grad, const float* weight, Half* to, int64_t rows, int64_t inputs, int64_t outputs,
                        int64_t grad_stride, int64_t weight_stride, int threads) {
  Product<true, Half, false, float, Half>{grad, grad_stride, weight, weight_stride, to, inputs, rows, inputs, outputs}
      .make(threads, 1, 3);
}

// gradient of weight (O, I) = gradient of y (N, O)' x (N, I).
void gradient_of_weight(const Half* grad, const Half* x, float* to, int64_t rows, int64_t inputs, int64_t outputs,
                        int64_t grad_stride, int64_t x_stride, int threads) {
  Product<false, Half, false, Half, float>{grad, grad_stride, x, x_stride, to, inputs, outputs, inputs, rows}.make(
      threads, 3, 2);
}
}
