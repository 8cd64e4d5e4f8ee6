// Sums and sums of squares by channel and lane of one group, in double.
//
// A few dozen floats are added in float before they join: the order is fixed by the layout alone.
#pragma once

#include <algorithm>

#include "vector.h"

namespace tfnas {

class Moments {
public:
    // `sums` has room for size(channels) doubles.
    Moments(double* sums, int channels) : sums_(sums), channels_(channels) {}

    static constexpr int64_t size(int channels) { return int64_t{channels} * 2 * kLanes; }

    int channels() const { return channels_; }

    void clear() { std::fill(sums_, sums_ + size(channels_), 0.0); }

    // Add to the vector `part` of a channel.
    void add(int channel, int part, Vector sum, Vector squares) {
        double* at = sums_ + size(channel) + part * kWidth;
        add_to(at, sum);
        add_to(at + kLanes, squares);
    }

    // Add the values of one channel, [pixels][kLanes].
    void add_row(int channel, const float* values, int pixels) {
        for (int begin = 0; begin < pixels; begin += kRun) {
            const int end = std::min(begin + kRun, pixels);
            Vector sums[kParts] = {}, squares[kParts] = {};
            for (int x = begin; x < end; ++x)
#pragma GCC unroll 4
                for (int part = 0; part < kParts; ++part) {
                    const Vector value = load(values + x * kLanes + part * kWidth);
                    sums[part] += value;
                    squares[part] = fused(value, value, squares[part]);
                }
            for (int part = 0; part < kParts; ++part) add(channel, part, sums[part], squares[part]);
        }
    }

    // Write sum and sum of squares over the first `images` lanes, [channels][2].
    void total(int images, double* totals) const {
        for (int row = 0; row < 2 * channels_; ++row) {
            totals[row] = 0;
            for (int lane = 0; lane < images; ++lane) totals[row] += sums_[row * kLanes + lane];
        }
    }

private:
    // Longest run of pixels whose sum is kept in float.
    static constexpr int kRun = 64;

    static void add_to(double* at, Vector values) {
        alignas(64) float each[kWidth];
        store(each, values);
        for (int i = 0; i < kWidth; i += kHalf)
            *reinterpret_cast<Doubles*>(at + i) +=
                __builtin_convertvector(*reinterpret_cast<const Half*>(each + i), Doubles);
    }

    double* sums_;
    int channels_;
};

}  // namespace tfnas
