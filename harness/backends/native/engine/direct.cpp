#include <algorithm>

#include "convolution.h"
#include "multiply.h"

namespace tfnas {
namespace {

// Output pixels for which every output channel is computed before the next ones': whole blocks, whose inputs, of all
// channels and one row, fill a level 1 cache. Sums are made by them, so that all builds must take the same.
int pixels_together(const Convolution& convolution, int input_channels) {
    constexpr int kInputs = 512, kBlock = 4;
    const int pixels = kInputs / (input_channels * convolution.kernel * convolution.stride);
    return std::max(1, pixels / kBlock) * kBlock;
}

}  // namespace

int64_t advances_per_strip(const Convolution& convolution, int input_channels, int width) {
    if (convolution.winograd) return WinogradBlock(input_channels, width).advances(convolution);
    const int together = pixels_together(convolution, input_channels);
    const int panels = convolution.channels / kPanelChannels;
    const int64_t blocks = convolution.width / together * block_count(1, together) +
                           block_count(1, convolution.width % together);
    return kStrip / convolution.stride * panels * blocks;
}

void convolve_row(const Convolution& convolution, const float* const* rows, int input_channels, int input_width,
                  float* output, Moments* moments, Prefetch& ahead) {
    const int kernel = convolution.kernel;
    const int64_t channel_step = int64_t{input_width + 2} * kLanes;
    const int64_t pixel_step = int64_t{convolution.stride} * kLanes;
    const int64_t tap_weights = int64_t{input_channels} * kPanelChannels;
    const int64_t output_step = int64_t{convolution.width} * kLanes;
    // The padding of a row is 1 pixel, of a 1x1 convolution 0.
    const int64_t first = kernel == 1 ? kLanes : 0;
    const int together = pixels_together(convolution, input_channels);
    for (int begin = 0; begin < convolution.width; begin += together) {
        const int count = std::min(together, convolution.width - begin);
        const float* weights = convolution.weights;
        float* to = output + begin * kLanes;
        for (int channel = 0; channel < convolution.channels; channel += kPanelChannels) {
            for_blocks(1, count, [&](auto block, int, int pixel) {
                ahead.advance();
                // What the next channels write, so that stores do not wait for it.
                for (int i = 0; i < kPanelChannels; ++i)
                    __builtin_prefetch(to + (kPanelChannels + i) * output_step + pixel * kLanes, 1);
                const float* tap = weights;
                for (int ky = 0; ky < kernel; ++ky)
                    for (int kx = 0; kx < kernel; ++kx, tap += tap_weights)
                        block.add(rows[ky] + first + (begin + pixel) * pixel_step + kx * kLanes, pixel_step,
                                  channel_step, tap, 0, input_channels);
                block.write(to + pixel * kLanes, output_step);
            });
            if (moments)
                // Two together: one alone would wait for its own additions.
                for (int i = 0; i < kPanelChannels; i += 2)
                    moments->add_row<2>(channel + i, to + i * output_step, output_step, count);
            weights += kernel * kernel * tap_weights;
            to += kPanelChannels * output_step;
        }
    }
}

}  // namespace tfnas
