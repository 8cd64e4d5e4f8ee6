#include <algorithm>

#include "convolution.h"
#include "multiply.h"

namespace tfnas {
namespace {

constexpr int kTile = WinogradBlock::kTile, kSide = kTile + 2;

// One dimension of the input transform.
inline __attribute__((always_inline)) void transform_input(const Vector* d, Vector* t) {
    const Vector two = broadcast(2), minus_two = broadcast(-2), four = broadcast(4), minus_four = broadcast(-4),
                 minus_five = broadcast(-5);
    const Vector even = fused(minus_four, d[2], d[4]), odd = fused(minus_four, d[1], d[3]);
    const Vector even_step = d[4] - d[2], odd_step = d[3] - d[1];
    t[0] = fused(four, d[0], fused(minus_five, d[2], d[4]));
    t[1] = even + odd;
    t[2] = even - odd;
    t[3] = fused(two, odd_step, even_step);
    t[4] = fused(minus_two, odd_step, even_step);
    t[5] = fused(four, d[1], fused(minus_five, d[3], d[5]));
}

// One dimension of the output transform.
inline __attribute__((always_inline)) void transform_output(const Vector* m, Vector* o) {
    const Vector near_sum = m[1] + m[2], near_step = m[1] - m[2], far_sum = m[3] + m[4], far_step = m[3] - m[4];
    o[0] = m[0] + near_sum + far_sum;
    o[1] = fused(broadcast(2), far_step, near_step);
    o[2] = fused(broadcast(4), far_sum, near_sum);
    o[3] = fused(broadcast(8), far_step, near_step) + m[5];
}

}  // namespace

WinogradBlock::WinogradBlock(int input_channels, int width)
    : input_channels_(input_channels),
      width_(width),
      tiles_(std::min(width / kTile, std::clamp(kInputs / input_channels, kMinTiles, kMaxTiles))) {}

int64_t WinogradBlock::advances(const Convolution& convolution) const {
    int64_t blocks = 0;
    for (int first = 0; first < convolution.channels; first += kChunk)
        blocks += block_count(std::min(kChunk, convolution.channels - first) / kPanelChannels, tiles_);
    return blocks * kPositions * (width_ / kTile / tiles_);
}

void WinogradBlock::transform(const float* const* rows, int x, int tiles, float* transformed) const {
    const int64_t step = input_step();
    const int floats = (tiles * kTile + 2) * kLanes;
    // Neighbouring tiles share columns: each is transformed once.
    alignas(64) float half[kSide][(kMaxTiles * kTile + 2) * kLanes];
    for (int channel = 0; channel < input_channels_; ++channel) {
        const int64_t from = (int64_t{channel} * (width_ + 2) + x) * kLanes;
        for (int i = 0; i < floats; i += kWidth) {
            Vector column[kSide], result[kSide];
#pragma GCC unroll 8
            for (int j = 0; j < kSide; ++j) column[j] = load(rows[j] + from + i);
            transform_input(column, result);
#pragma GCC unroll 8
            for (int j = 0; j < kSide; ++j) store(half[j] + i, result[j]);
        }
        float* to = transformed + int64_t{channel} * tiles * kLanes;
        for (int j = 0; j < kSide; ++j, to += kSide * step)
            for (int i = 0; i < tiles * kLanes; i += kWidth) {
                const float* columns = half[j] + i / kLanes * kTile * kLanes + i % kLanes;
                Vector row[kSide], result[kSide];
#pragma GCC unroll 8
                for (int k = 0; k < kSide; ++k) row[k] = load(columns + k * kLanes);
                transform_input(row, result);
#pragma GCC unroll 8
                for (int k = 0; k < kSide; ++k) store(to + k * step + i, result[k]);
            }
    }
}

void WinogradBlock::multiply(const Convolution& convolution, const float* transformed, int x, int tiles,
                             float* products, float* rows, int64_t row_floats, Moments* moments,
                             Prefetch& ahead) const {
    for (int first = 0; first < convolution.channels; first += kChunk) {
        const int count = std::min(kChunk, convolution.channels - first);
        multiply_chunk(convolution, first, count, transformed, tiles, products, ahead);
        for (int channel = 0; channel < count; ++channel) {
            // What the next channel writes, so that stores do not wait for it.
            float* next = rows + (int64_t{first + channel + 1} * width_ + x) * kLanes;
            for (int y = 0; y < kTile; ++y)
                for (int i = 0; i < tiles * kTile; ++i) __builtin_prefetch(next + y * row_floats + i * kLanes, 1);
            transform_back(products + int64_t{channel} * tiles * kLanes, tiles,
                           rows + (int64_t{first + channel} * width_ + x) * kLanes, row_floats, moments,
                           first + channel);
        }
    }
}

// Products of output channels first to first + channels, [36][channels][tiles][kLanes].
void WinogradBlock::multiply_chunk(const Convolution& convolution, int first, int channels,
                                   const float* transformed, int tiles, float* products, Prefetch& ahead) const {
    const int64_t tile_floats = int64_t{tiles} * kLanes;
    const int64_t panel_weights = int64_t{input_channels_} * kPanelChannels;
    for (int position = 0; position < kPositions; ++position) {
        const float* input = transformed + position * input_step();
        const float* weights =
            convolution.weights + (int64_t{position} * convolution.channels + first) * input_channels_;
        float* output = products + position * product_step();
        for_blocks(channels / kPanelChannels, tiles, [&](auto block, int panel, int tile) {
            ahead.advance();
            block.add(input + tile * kLanes, kLanes, tile_floats, weights + panel * panel_weights, panel_weights,
                      input_channels_);
            block.write(output + (panel * kPanelChannels * tiles + tile) * kLanes, tile_floats);
        });
    }
}

// Outputs of one channel.
void WinogradBlock::transform_back(const float* products, int tiles, float* rows, int64_t row_floats,
                                   Moments* moments, int channel) const {
    const int64_t step = product_step();
    alignas(64) float half[kSide][kTile][kMaxTiles * kLanes];
    for (int j = 0; j < kSide; ++j, products += kSide * step)
        for (int i = 0; i < tiles * kLanes; i += kWidth) {
            Vector row[kSide], result[kTile];
#pragma GCC unroll 8
            for (int k = 0; k < kSide; ++k) row[k] = load(products + k * step + i);
            transform_output(row, result);
#pragma GCC unroll 8
            for (int k = 0; k < kTile; ++k) store(half[j][k] + i, result[k]);
        }
    for (int part = 0; part < kParts; ++part) {
        Vector sum = {}, squares = {};
        for (int tile = 0; tile < tiles; ++tile)
            for (int i = 0; i < kTile; ++i) {
                Vector column[kSide], result[kTile];
#pragma GCC unroll 8
                for (int j = 0; j < kSide; ++j) column[j] = load(half[j][i] + tile * kLanes + part * kWidth);
                transform_output(column, result);
                float* to = rows + (tile * kTile + i) * kLanes + part * kWidth;
#pragma GCC unroll 8
                for (int j = 0; j < kTile; ++j) store(to + j * row_floats, result[j]);
                sum += (result[0] + result[1]) + (result[2] + result[3]);
                squares += fused(result[0], result[0], result[1] * result[1]) +
                           fused(result[2], result[2], result[3] * result[3]);
            }
        if (moments) moments->add(channel, part, sum, squares);
    }
}

}  // namespace tfnas
