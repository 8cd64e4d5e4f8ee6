// Memory that is read next, fetched into cache bit by bit while something else is computed.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

namespace tfnas {

class Prefetch {
public:
    void clear() {
        ranges_.clear();
        bytes_ = 0;
    }

    void add(const float* begin, int64_t floats) {
        const char* first = reinterpret_cast<const char*>(begin);
        ranges_.push_back({first, first + floats * static_cast<int64_t>(sizeof(float))});
        bytes_ += floats * static_cast<int64_t>(sizeof(float));
    }

    // Spread the fetching over `calls` calls of advance().
    void spread(int64_t calls) { share_ = calls ? (bytes_ / kLine + calls - 1) / calls : 0; }

    void advance() {
        for (int64_t left = share_; left > 0 && !ranges_.empty();) {
            Range& range = ranges_.back();
            // Not into level 1, which is full of what is computed meanwhile.
            for (; left > 0 && range.next < range.end; --left, range.next += kLine)
                __builtin_prefetch(range.next, 0, 2);
            if (range.next >= range.end) ranges_.pop_back();
        }
    }

private:
    struct Range {
        const char *next, *end;
    };
    static constexpr int64_t kLine = 64;

    std::vector<Range> ranges_;
    int64_t bytes_ = 0, share_ = 0;
};

}  // namespace tfnas
