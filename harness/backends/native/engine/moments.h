// Sums and sums of squares by channel and lane of one group, in double.
//
// What a strip adds is summed in float before it joins: the order is fixed by the layout alone.
#pragma once

#include <algorithm>

#include "vector.h"

namespace tfnas {

class Moments {
public:
    // `sums` and `strip` have room for size(channels) numbers each.
    Moments(double* sums, float* strip, int channels) : sums_(sums), strip_(strip), channels_(channels) {}

    static constexpr int64_t size(int channels) { return int64_t{channels} * 2 * kLanes; }

    int channels() const { return channels_; }

    void clear() {
        std::fill(sums_, sums_ + size(channels_), 0.0);
        std::fill(strip_, strip_ + size(channels_), 0.0f);
    }

    // Add to the vector `part` of a channel.
    void add(int channel, int part, Vector sum, Vector squares) {
        float* at = strip_ + size(channel) + part * kWidth;
        store(at, load(at) + sum);
        store(at + kLanes, load(at + kLanes) + squares);
    }

    // Add the values of `kChannels` channels from `channel` on, [pixels][kLanes] each, `channel_step` floats apart.
    template <int kChannels>
    void add_row(int channel, const float* values, int64_t channel_step, int pixels) {
        Vector sums[kChannels][kParts] = {}, squares[kChannels][kParts] = {};
        for (int x = 0; x < pixels; ++x)
#pragma GCC unroll 4
            for (int i = 0; i < kChannels; ++i)
#pragma GCC unroll 4
                for (int part = 0; part < kParts; ++part) {
                    const Vector value = load(values + i * channel_step + x * kLanes + part * kWidth);
                    sums[i][part] += value;
                    squares[i][part] = fused(value, value, squares[i][part]);
                }
#pragma GCC unroll 4
        for (int i = 0; i < kChannels; ++i)
#pragma GCC unroll 4
            for (int part = 0; part < kParts; ++part) add(channel + i, part, sums[i][part], squares[i][part]);
    }

    // The strip is over.
    void join() {
        for (int64_t i = 0; i < size(channels_); ++i) {
            sums_[i] += strip_[i];
            strip_[i] = 0;
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
    double* sums_;
    float* strip_;
    int channels_;
};

}  // namespace tfnas
