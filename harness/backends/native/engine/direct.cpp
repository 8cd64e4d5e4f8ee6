#include "convolution.h"
#include "multiply.h"

namespace tfnas {

int64_t advances_per_strip(const Convolution& convolution, int input_channels, int width) {
    const int64_t blocks = convolution.channels / kBlockChannels;
    if (!convolution.winograd) return blocks * (kStrip / convolution.stride) * (convolution.width / kBlockPixels);
    const int tiles = WinogradBlock(input_channels, width).tiles();
    return blocks * WinogradBlock::kPositions * (width / WinogradBlock::kTile / tiles) * (tiles / kBlockPixels);
}

void convolve_row(const Convolution& convolution, const float* const* rows, int input_channels, int input_width,
                  float* output, Moments* moments, Prefetch& ahead) {
    const int kernel = convolution.kernel;
    const int64_t channel_step = int64_t{input_width + 2} * kLanes;
    const int64_t pixel_step = int64_t{convolution.stride} * kLanes;
    const int64_t tap_weights = int64_t{input_channels} * kBlockChannels;
    const int64_t output_step = int64_t{convolution.width} * kLanes;
    // The padding of a row is 1 pixel, of a 1x1 convolution 0.
    const int64_t first = kernel == 1 ? kLanes : 0;
    const float* weights = convolution.weights;
    for (int channel = 0; channel < convolution.channels; channel += kBlockChannels) {
        for_blocks(convolution.width, [&](auto block, int x) {
            ahead.advance();
            const float* tap = weights;
            for (int ky = 0; ky < kernel; ++ky)
                for (int kx = 0; kx < kernel; ++kx, tap += tap_weights)
                    block.add(rows[ky] + first + x * pixel_step + kx * kLanes, pixel_step, channel_step, tap,
                              input_channels);
            block.write(output + channel * output_step + x * kLanes, output_step);
        });
        if (moments)
            for (int i = channel; i < channel + kBlockChannels; ++i)
                moments->add_row(i, output + i * output_step, convolution.width);
        weights += kernel * kernel * tap_weights;
    }
}

}  // namespace tfnas
