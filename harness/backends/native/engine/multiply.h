// The inner product of all convolutions: a block of output channels by pixels, held in registers.
#pragma once

#include "vector.h"

namespace tfnas {

// Output channels whose weights are packed together, a panel: [input channels][kPanelChannels].
constexpr int kPanelChannels = 4;

// As many pixels as registers hold sums for: 16 vectors of 32, or 8 of 16.
constexpr int kBlockPixels = kWidth == 16 ? 4 : 1;

template <int kPanels, int kPixels>
struct Block {
    static constexpr int kChannels = kPanels * kPanelChannels;

    Vector sums[kChannels][kPixels][kParts] = {};

    // Add the products of one tap. input: pixels `pixel_step` floats apart, `channels` `channel_step` apart; weights:
    // panels `panel_step` floats apart.
    inline __attribute__((always_inline)) void add(const float* input, int64_t pixel_step, int64_t channel_step,
                                                   const float* weights, int64_t panel_step, int channels) {
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
            for (int output = 0; output < kChannels; ++output) {
                const Vector weight =
                    broadcast(weights[output / kPanelChannels * panel_step + output % kPanelChannels]);
#pragma GCC unroll 8
                for (int pixel = 0; pixel < kPixels; ++pixel)
#pragma GCC unroll 8
                    for (int part = 0; part < kParts; ++part)
                        sums[output][pixel][part] = fused(weight, values[pixel][part], sums[output][pixel][part]);
            }
            input += channel_step;
            weights += kPanelChannels;
        }
    }

    // Write to pixels side by side, channels `channel_step` floats apart.
    inline __attribute__((always_inline)) void write(float* output, int64_t channel_step) const {
#pragma GCC unroll 8
        for (int channel = 0; channel < kChannels; ++channel)
#pragma GCC unroll 8
            for (int pixel = 0; pixel < kPixels; ++pixel)
#pragma GCC unroll 8
                for (int part = 0; part < kParts; ++part)
                    store(output + channel * channel_step + pixel * kLanes + part * kWidth,
                          sums[channel][pixel][part]);
    }
};

// Whether two pixels leave registers enough for two panels; with one the processor would wait for its sums.
inline bool pairs_panels(int pixels) { return kBlockPixels == 4 && pixels == 2; }

// Call work(block, panel, pixel) for blocks that cover `panels` by `pixels`, the large ones first.
template <typename Work>
inline __attribute__((always_inline)) void for_blocks(int panels, int pixels, Work work) {
    int panel = 0;
    if (pairs_panels(pixels))
        for (; panel + 2 <= panels; panel += 2) work(Block<2, 2>(), panel, 0);
    for (; panel < panels; ++panel) {
        int pixel = 0;
        for (; pixel + kBlockPixels <= pixels; pixel += kBlockPixels) work(Block<1, kBlockPixels>(), panel, pixel);
        for (; pixel < pixels; ++pixel) work(Block<1, 1>(), panel, pixel);
    }
}

// How often for_blocks calls.
inline int64_t block_count(int panels, int pixels) {
    const int single = pixels / kBlockPixels + pixels % kBlockPixels;
    return pairs_panels(pixels) ? panels / 2 + panels % 2 * single : int64_t{panels} * single;
}

}  // namespace tfnas
