// One row of a pass's value, channel by channel, [width][kLanes]: sum of terms, and where it goes.
#pragma once

#include "codes.h"
#include "program.h"
#include "vector.h"

namespace tfnas {

// Where the values of one row come from, for one group: `rows` rows of a map from `source` on, which are
// averaged where there are windows.
struct TermRow {
    const Term* term;
    const float* source;
    int64_t row_floats;
    int rows;
    const float *scale, *shift;  // by channel, or null
};

// Rows of its source that a term has read when it has given `count` rows.
int rows_read(const Term& term, int count);

TermRow term_row(const Term& term, const float* arena, const float* affine, int64_t group, int channels, int y);

// Mean over each window of one channel; pixels outside the map are not counted. `scratch` holds one row of one
// channel of the source.
void pool_row(const TermRow& row, const float* source, int width, float* scratch, float* values);

// One channel of a term, scale * values + shift.
struct Summand {
    const float* values;
    float scale, shift;
};

// What is done with a sum as long as it is in registers; null where it is not.
struct Uses {
    float* stored;
    float* ring;
    bool rectify;  // on the way to the ring
    SignWriter* signs;
};

// Sums one channel of a row of `width` pixels.
using SumRow = void (*)(const Summand* begin, const Summand* end, int width, const Uses& uses);

// The one made for such uses.
SumRow sum_row_for(const Uses& uses);

}  // namespace tfnas
