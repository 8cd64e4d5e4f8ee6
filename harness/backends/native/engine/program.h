// A lowered plan, as Python hands it over (see library.py): flat arrays, offsets in floats.
//
// A feature map of all images lies in the arena as [group][y][channel][x][lane].
#pragma once

#include <cstdint>

namespace tfnas {

// A feature map read on the way: scaled and shifted by channel where `affine` is not negative, and averaged
// over windows where `kernel` is not 0. `height` and `width` are those of the map itself.
struct Term {
    int64_t source;
    int64_t affine;
    int32_t height, width;
    int32_t kernel, stride, padding;
};

// A convolution of the value of a pass; its output is stored as it comes. Where `affine` is not negative, the
// scale and shift that normalise it are left there: [2][channels].
struct Convolution {
    int64_t output;
    int64_t affine;
    const float* weights;
    int32_t channels, height, width;
    int32_t kernel, stride;
    int32_t winograd;
};

// value = sum of terms, [channels, height, width] of an image. It is stored where `output` is not negative,
// gets its own affine like a convolution, has its signs counted `multiplicity` times, and is read by
// convolutions, rectified or not.
struct Pass {
    int64_t output;
    int64_t affine;
    int32_t channels, height, width;
    int32_t rectify;
    int32_t multiplicity;
    int32_t term_begin, term_end;
    int32_t convolution_begin, convolution_end;
};

// The images lie at the start of the arena.
struct Program {
    const Pass* passes;
    const Term* terms;
    const Convolution* convolutions;
    int64_t pass_count;
    int64_t arena_floats;
    int64_t affine_floats;
    int32_t batch, channels, height, width;
};

}  // namespace tfnas
