#include "rows.h"

#include <algorithm>

namespace tfnas {
namespace {

// What is done to each value on its way: scale and shift where the term has them, addition to what is there.
struct Reading {
    bool affine, add;
    float scale, shift;
};

inline Vector read(const Reading& reading, Vector value, const float* to) {
    if (reading.affine) value = fused(value, broadcast(reading.scale), broadcast(reading.shift));
    return reading.add ? load(to) + value : value;
}

void read_row(const Reading& reading, const float* source, int width, float* values) {
    for (int i = 0; i < width * kLanes; i += kWidth)
        store(values + i, read(reading, load(source + i), values + i));
}

// Mean of `count` pixels side by side, times `share`. `kCount` is the count where the compiler knows it, or 0.
template <int kCount>
inline void mean_columns(const Reading& reading, const float* from, int count, float share, float* to) {
    if (kCount) count = kCount;
    for (int part = 0; part < kParts; ++part) {
        Vector sum = load(from + part * kWidth);
        for (int column = 1; column < count; ++column) sum += load(from + column * kLanes + part * kWidth);
        store(to + part * kWidth, read(reading, sum * share, to + part * kWidth));
    }
}

// Mean over each window; pixels outside the map are not counted.
void read_pooled(const Reading& reading, const TermRow& row, const float* source, int width, float* scratch,
                 float* values) {
    const Term& term = *row.term;
    const int floats = term.width * kLanes;
    const float* columns = source;
    for (int y = 1; y < row.rows; ++y) {
        const float* next = source + y * row.row_floats;
        for (int i = 0; i < floats; i += kWidth) store(scratch + i, load(columns + i) + load(next + i));
        columns = scratch;
    }
    int counted = 0;
    float share = 0;
    for (int x = 0; x < width; ++x) {
        const int left = std::max(x * term.stride - term.padding, 0);
        const int count = std::min(x * term.stride - term.padding + term.kernel, term.width) - left;
        if (count != counted) {
            counted = count;
            share = 1.0f / static_cast<float>(row.rows * count);
        }
        const float* from = columns + left * kLanes;
        float* to = values + x * kLanes;
        if (count == 3)
            mean_columns<3>(reading, from, 3, share, to);
        else
            mean_columns<0>(reading, from, count, share, to);
    }
}

}  // namespace

int rows_read(const Term& term, int count) {
    if (!term.kernel || !count) return count;
    return std::clamp((count - 1) * term.stride - term.padding + term.kernel, 0, term.height);
}

TermRow term_row(const Term& term, const float* arena, const float* affine, int64_t group, int channels, int y) {
    const int first = term.kernel ? std::max(y * term.stride - term.padding, 0) : y;
    const int64_t row_floats = int64_t{channels} * term.width * kLanes;
    TermRow row = {&term, arena + term.source + (group * term.height + first) * row_floats, row_floats,
                   rows_read(term, y + 1) - first, nullptr, nullptr};
    if (term.affine >= 0) {
        row.scale = affine + term.affine;
        row.shift = row.scale + channels;
    }
    return row;
}

void sum_terms(const TermRow* begin, const TermRow* end, int channel, int width, float* scratch, float* values) {
    for (const TermRow* row = begin; row != end; ++row) {
        const float* source = row->source + int64_t{channel} * row->term->width * kLanes;
        Reading reading = {row->scale != nullptr, row != begin, 1, 0};
        if (row->scale) {
            reading.scale = row->scale[channel];
            reading.shift = row->shift[channel];
        }
        if (row->term->kernel)
            read_pooled(reading, *row, source, width, scratch, values);
        else
            read_row(reading, source, width, values);
    }
}

void copy_row(const float* values, int width, bool rectify, float* to) {
    for (int i = 0; i < width * kLanes; i += kWidth) {
        const Vector value = load(values + i);
        store(to + i, rectify ? positive_part(value) : value);
    }
}

}  // namespace tfnas
