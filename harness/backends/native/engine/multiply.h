// The inner product of all convolutions: a block of 4 output channels by a few pixels, held in registers.
#pragma once

#include "vector.h"

namespace tfnas {

constexpr int kBlockChannels = 4;

// As many pixels as registers hold sums for: 16 vectors of 32, or 8 of 16.
constexpr int kBlockPixels = kWidth == 16 ? 4 : 1;

template <int kPixels>
struct Block {
    Vector sums[kBlockChannels][kPixels][kParts] = {};

    // Add the products of one tap. input: pixels `pixel_step` floats apart, channels `channel_step` apart;
    // weights: [channels][kBlockChannels].
    inline __attribute__((always_inline)) void add(const float* input, int64_t pixel_step, int64_t channel_step,
                                                   const float* weights, int channels) {
        // Four at a time: the loop itself would take a seventh of the time.
#pragma GCC unroll 4
        for (int channel = 0; channel < channels; ++channel) {
            Vector values[kPixels][kParts];
#pragma GCC unroll 8
            for (int pixel = 0; pixel < kPixels; ++pixel)
#pragma GCC unroll 8
                for (int part = 0; part < kParts; ++part)
                    values[pixel][part] = load(input + pixel * pixel_step + part * kWidth);
#pragma GCC unroll 8
            for (int output = 0; output < kBlockChannels; ++output) {
                const Vector weight = broadcast(weights[output]);
#pragma GCC unroll 8
                for (int pixel = 0; pixel < kPixels; ++pixel)
#pragma GCC unroll 8
                    for (int part = 0; part < kParts; ++part)
                        sums[output][pixel][part] = fused(weight, values[pixel][part], sums[output][pixel][part]);
            }
            input += channel_step;
            weights += kBlockChannels;
        }
    }

    // Write to pixels side by side, channels `channel_step` floats apart.
    inline __attribute__((always_inline)) void write(float* output, int64_t channel_step) const {
#pragma GCC unroll 8
        for (int channel = 0; channel < kBlockChannels; ++channel)
#pragma GCC unroll 8
            for (int pixel = 0; pixel < kPixels; ++pixel)
#pragma GCC unroll 8
                for (int part = 0; part < kParts; ++part)
                    store(output + channel * channel_step + pixel * kLanes + part * kWidth,
                          sums[channel][pixel][part]);
    }
};

// Call work(block, pixel) for blocks that cover `pixels`, the large ones first.
template <typename Work>
inline __attribute__((always_inline)) void for_blocks(int pixels, Work work) {
    int pixel = 0;
    for (; pixel + kBlockPixels <= pixels; pixel += kBlockPixels) work(Block<kBlockPixels>(), pixel);
    for (; pixel < pixels; ++pixel) work(Block<1>(), pixel);
}

}  // namespace tfnas
