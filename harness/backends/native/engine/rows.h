// One row of a pass's value, channel by channel, [width][kLanes]: sum of terms, rectified copy.
#pragma once

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

// Sum of terms in one channel. `scratch` holds one row of one channel of the widest source.
void sum_terms(const TermRow* begin, const TermRow* end, int channel, int width, float* scratch, float* values);

// Copy, with what is below 0 at 0 where `rectify`.
void copy_row(const float* values, int width, bool rectify, float* to);

}  // namespace tfnas
