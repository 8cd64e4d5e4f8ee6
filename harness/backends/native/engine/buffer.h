// Memory that starts on a cache line, grows when asked, and is never given back before its end.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <memory>
#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace tfnas {

template <typename T>
class Buffer {
public:
    T* data() { return memory_.get(); }
    const T* data() const { return memory_.get(); }

    // At least `count` elements; what they hold is unknown.
    T* reserve(size_t count) {
        if (count > capacity_) {
            memory_.reset();
            const size_t alignment = count * sizeof(T) < kHugePage ? kCacheLine : kHugePage;
            const size_t bytes = (count * sizeof(T) + alignment - 1) / alignment * alignment;
            void* memory = std::aligned_alloc(alignment, bytes);
            if (!memory) throw std::bad_alloc();
#if defined(__linux__)
            if (alignment == kHugePage) madvise(memory, bytes, MADV_HUGEPAGE);
#endif
            memory_.reset(static_cast<T*>(memory));
            capacity_ = count;
        }
        return data();
    }

private:
    struct Free {
        void operator()(T* memory) const { std::free(memory); }
    };
    static constexpr size_t kCacheLine = 64;
    static constexpr size_t kHugePage = size_t{1} << 21;

    std::unique_ptr<T, Free> memory_;
    size_t capacity_ = 0;
};

}  // namespace tfnas
