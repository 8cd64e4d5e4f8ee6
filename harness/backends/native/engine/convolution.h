// Convolutions of a few rows of one group.
//
// Input rows are padded with one zero pixel on either side: [channels][width + 2][kLanes].
#pragma once

#include "moments.h"
#include "prefetch.h"
#include "program.h"
#include "vector.h"

namespace tfnas {

// Rows that are worked on at a time, and as many as a Winograd tile gives.
constexpr int kStrip = 4;

// Calls of ahead.advance() that a strip of a convolution makes at least.
int64_t advances_per_strip(const Convolution& convolution, int input_channels, int width);

// One output row. rows: the `kernel` input rows around it; output: [channels][width][kLanes].
// Weights are packed [channels / 4][kernel][kernel][input_channels][4].
void convolve_row(const Convolution& convolution, const float* const* rows, int input_channels, int input_width,
                  float* output, Moments* moments, Prefetch& ahead);

// Winograd's F(4x4, 3x3) (Lavin and Gray, CVPR 2016): 36 products instead of 144 for a tile of 4x4 outputs.
// A block of tiles is transformed once and then multiplied by each convolution that reads it.
class WinogradBlock {
public:
    static constexpr int kTile = 4;
    static constexpr int kPositions = 36;

    WinogradBlock(int input_channels, int width);

    // Tiles of a block; the last block of a strip may have fewer.
    int tiles() const { return tiles_; }

    // Calls of ahead.advance() that the blocks of a strip make at least.
    int64_t advances(const Convolution& convolution) const;

    // Floats of the two scratch arrays.
    int64_t transformed_floats() const { return kPositions * input_step(); }
    int64_t product_floats() const { return kPositions * product_step(); }

    // rows: kTile + 2 input rows; the first tile starts at output column x.
    void transform(const float* const* rows, int x, int tiles, float* transformed) const;

    // Outputs of kTile rows from x on. rows: [channels][width][kLanes] each, `row_floats` apart.
    // Weights are packed [36][channels / 4][input_channels][4].
    void multiply(const Convolution& convolution, const float* transformed, int x, int tiles, float* products,
                  float* rows, int64_t row_floats, Moments* moments, Prefetch& ahead) const;

private:
    // Input channels times tiles of a block, whose 36 positions leave room in a level 2 cache for products, rows
    // and what is fetched ahead; a block of one tile would read all weights for too little.
    static constexpr int kInputs = 64, kMinTiles = 2, kMaxTiles = 4;
    // Output channels that are multiplied before they are transformed back, so that products stay in cache.
    static constexpr int kChunk = 16;
    // Keeps the 36 positions of a tile from meeting in the same cache set.
    static constexpr int64_t kSkew = 5 * kLanes;

    void multiply_chunk(const Convolution& convolution, int first, int channels, const float* transformed,
                        int tiles, float* products, Prefetch& ahead) const;
    void transform_back(const float* products, int tiles, float* rows, int64_t row_floats, Moments* moments,
                        int channel) const;

    int64_t input_step() const { return int64_t{input_channels_} * tiles_ * kLanes + kSkew; }
    int64_t product_step() const { return int64_t{kChunk} * tiles_ * kLanes + kSkew; }

    int input_channels_, width_, tiles_;
};

}  // namespace tfnas
