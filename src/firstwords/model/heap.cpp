// A heap for the large tensors of a CPU, in place of malloc: `heap.py` compiles it and puts it under PyTorch.
//
// Memory is mapped in huge pages, and a block that is freed is kept for the next one, of whatever size: neighbours are
// joined, and the smallest place that is large enough is cut. What is kept beyond the most that was ever in use, and a
// little more, is given back to the system before anything new is mapped. Where the system once had no more to give,
// nothing is kept any longer, and a margin is left to all that asks malloc.

#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/impl/alloc_cpu.h>
#include <c10/util/Exception.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <map>
#include <mutex>
#include <set>
#include <utility>

namespace {

using Address = std::uintptr_t;

constexpr std::size_t kLeast = std::size_t{1} << 20;  // smaller blocks are malloc's
constexpr std::size_t kGrain = std::size_t{1} << 16;  // blocks are whole grains, so that few odd ends are left
constexpr std::size_t kPage = std::size_t{1} << 21;   // a huge page of x86-64 and of most ARM systems
constexpr std::size_t kGrowth = std::size_t{1} << 25;  // mapped at least
constexpr std::size_t kMargin = std::size_t{1} << 26;  // left to others where memory is short

constexpr std::size_t rounded_up(std::size_t size, std::size_t unit) { return (size + unit - 1) / unit * unit; }

class Heap {
 public:
  // Null where the system gives no more.
  void* allocate(std::size_t bytes) {
    const std::size_t size = rounded_up(bytes, kGrain);
    const std::lock_guard<std::mutex> guard(mutex_);
    auto place = by_size_.lower_bound({size, 0});
    if (place == by_size_.end()) {
      const std::size_t needed = std::max(rounded_up(size, kPage), kGrowth);
      give_back_above(std::max(most_used_, used_ + size) / 8 * 9, needed);
      Address begin = mapped(needed);
      if (begin == 0) {
        short_ = true;
        give_back_above(0, 0);
        begin = mapped(needed);
      }
      if (begin == 0) return nullptr;
      mapped_ += needed;
      add_free(begin, needed);
      place = by_size_.lower_bound({size, 0});
    }
    const auto [found, begin] = *place;
    remove_free(begin, found);
    if (found > size) add_free(begin + size, found - size);
    taken_[begin] = size;
    used_ += size;
    most_used_ = std::max(most_used_, used_);
    return reinterpret_cast<void*>(begin);
  }

  // Whether the block was one of this heap's.
  bool free(void* data) {
    const std::lock_guard<std::mutex> guard(mutex_);
    const auto block = taken_.find(reinterpret_cast<Address>(data));
    if (block == taken_.end()) return false;
    used_ -= block->second;
    add_free(block->first, block->second);
    taken_.erase(block);
    if (short_) give_back_above(0, 0);
    return true;
  }

  void give_back() {
    const std::lock_guard<std::mutex> guard(mutex_);
    give_back_above(0, 0);
    most_used_ = used_;
  }

  std::size_t held() {
    const std::lock_guard<std::mutex> guard(mutex_);
    return mapped_;
  }

 private:
  void add_free(Address begin, std::size_t size) {
    const auto next = by_address_.lower_bound(begin);
    if (next != by_address_.begin()) {
      const auto [before, width] = *std::prev(next);
      if (before + width == begin) {
        remove_free(before, width);
        begin = before, size += width;
      }
    }
    if (next != by_address_.end() && begin + size == next->first) {
      const auto [after, width] = *next;
      remove_free(after, width);
      size += width;
    }
    by_address_[begin] = size;
    by_size_.insert({size, begin});
  }

  void remove_free(Address begin, std::size_t size) {
    by_address_.erase(begin);
    by_size_.erase({size, begin});
  }

  // Unmap free pages, of the largest places first, until `needed` more would make no more than `limit`.
  void give_back_above(std::size_t limit, std::size_t needed) {
    while (mapped_ + needed > limit && !by_size_.empty()) {
      const auto [size, begin] = *std::prev(by_size_.end());
      const Address first = rounded_up(begin, kPage), end = (begin + size) / kPage * kPage;
      if (end < first + kPage) break;  // smaller ones hold no whole page, or hardly one
      const Address last = first + std::min(end - first, rounded_up(mapped_ + needed - limit, kPage));
      if (munmap(reinterpret_cast<void*>(first), last - first) != 0) break;
      remove_free(begin, size);
      if (first > begin) add_free(begin, first - begin);
      if (begin + size > last) add_free(last, begin + size - last);
      mapped_ -= last - first;
    }
  }

  // Pages that begin where a huge one does; 0 where the system has no more than that and the margin.
  static Address mapped(std::size_t size) {
    const std::size_t wide = size + kPage + kMargin;
    void* found = mmap(nullptr, wide, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (found == MAP_FAILED) return 0;
    // The last place in it, so that it adjoins what was mapped before: systems map from the top downwards.
    const Address least = reinterpret_cast<Address>(found), end = (least + wide) / kPage * kPage, begin = end - size;
    munmap(found, begin - least);
    if (least + wide > end) munmap(reinterpret_cast<void*>(end), least + wide - end);
#ifdef MADV_HUGEPAGE
    madvise(reinterpret_cast<void*>(begin), size, MADV_HUGEPAGE);
#endif
    return begin;
  }

  std::mutex mutex_;
  std::map<Address, std::size_t> by_address_;              // free places
  std::set<std::pair<std::size_t, Address>> by_size_;      // the same
  std::map<Address, std::size_t> taken_;
  std::size_t used_ = 0, most_used_ = 0, mapped_ = 0;
  bool short_ = false;
};

// Never destroyed: tensors may outlive everything else of a process.
Heap& heap() {
  static Heap& only = *new Heap;
  return only;
}

void free_block(void* data) {
  if (data != nullptr && !heap().free(data)) c10::free_cpu(data);
}

class HeapAllocator final : public c10::Allocator {
 public:
  c10::DataPtr allocate(std::size_t bytes) override {
    void* data = bytes < kLeast ? c10::alloc_cpu(bytes) : heap().allocate(bytes);
    // In PyTorch's words, by which it is known for what it is.
    TORCH_CHECK(bytes == 0 || data != nullptr, "can't allocate memory: ", bytes, " bytes for a tensor");
    return {data, data, &free_block, c10::Device(c10::DeviceType::CPU)};
  }

  c10::DeleterFnPtr raw_deleter() const override { return &free_block; }

  void copy_data(void* to, const void* from, std::size_t bytes) const override { default_copy_data(to, from, bytes); }
};

}  // namespace

extern "C" {

void use_heap() {
  static HeapAllocator& only = *new HeapAllocator;
  c10::SetCPUAllocator(&only, /*priority=*/1);
}

void give_back() { heap().give_back(); }

std::int64_t held_bytes() { return static_cast<std::int64_t>(heap().held()); }

}
