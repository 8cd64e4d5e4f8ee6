#include "rows.h"

#include <algorithm>

namespace tfnas {
namespace {

// Mean over windows of 3x3 around each pixel of two or more, of which `kRows` rows lie inside the map.
template <int kRows>
void pool_around(const float* source, int64_t row_floats, int width, float* values) {
    const auto column = [&](int x, int part) {
        const float* from = source + x * kLanes + part * kWidth;
        Vector sum = load(from);
        for (int y = 1; y < kRows; ++y) sum += load(from + y * row_floats);
        return sum;
    };
    constexpr float kEdge = 1.0f / (2 * kRows), kInner = 1.0f / (3 * kRows);
    Vector left[kParts], middle[kParts];
    for (int part = 0; part < kParts; ++part) {
        left[part] = column(0, part);
        middle[part] = column(1, part);
        store(values + part * kWidth, (left[part] + middle[part]) * kEdge);
    }
    float* to = values + kLanes;
    for (int x = 1; x + 1 < width; ++x, to += kLanes)
#pragma GCC unroll 4
        for (int part = 0; part < kParts; ++part) {
            const Vector right = column(x + 1, part);
            store(to + part * kWidth, (left[part] + middle[part] + right) * kInner);
            left[part] = middle[part];
            middle[part] = right;
        }
    for (int part = 0; part < kParts; ++part) store(to + part * kWidth, (left[part] + middle[part]) * kEdge);
}

// Pixels that are summed together, and those whose codes fill a word.
constexpr int kSums = 4, kCodes = 32;

inline Vector read(const Summand& summand, int offset) {
    return fused(load(summand.values + offset), broadcast(summand.scale), broadcast(summand.shift));
}

enum class Ring { kNone, kPlain, kRectified };

// A row for one choice of what is done with it, made outside of the inner loops.
template <bool kStored, bool kSigns, Ring kRing>
struct Row {
    const Summand *begin, *end;
    float *stored, *ring;

    // Sum the pixels first to first + kPixels and add their codes.
    template <int kPixels>
    inline __attribute__((always_inline)) void sum(int first, Integers* codes) const {
        constexpr int kVectors = kPixels * kParts;
        const int offset = first * kLanes;
        Vector sums[kVectors];
#pragma GCC unroll 8
        for (int i = 0; i < kVectors; ++i) sums[i] = read(*begin, offset + i * kWidth);
        for (const Summand* each = begin + 1; each != end; ++each)
#pragma GCC unroll 8
            for (int i = 0; i < kVectors; ++i) sums[i] += read(*each, offset + i * kWidth);
#pragma GCC unroll 8
        for (int i = 0; i < kVectors; ++i) {
            if constexpr (kStored) store(stored + offset + i * kWidth, sums[i]);
            if constexpr (kSigns) codes[i % kParts] = add_sign(codes[i % kParts], sums[i]);
            if constexpr (kRing == Ring::kPlain) store(ring + offset + i * kWidth, sums[i]);
            if constexpr (kRing == Ring::kRectified) store(ring + offset + i * kWidth, positive_part(sums[i]));
        }
    }

    static void run(const Summand* begin, const Summand* end, int width, const Uses& uses) {
        const Row row = {begin, end, uses.stored, uses.ring};
        for (int first = 0; first < width; first += kCodes) {
            const int last = std::min(first + kCodes, width);
            Integers codes[kParts] = {};
            int x = first;
            for (; x + kSums <= last; x += kSums) row.template sum<kSums>(x, codes);
            for (; x < last; ++x) row.template sum<1>(x, codes);
            if constexpr (kSigns) uses.signs->add(codes, last - first);
        }
    }
};

template <bool kStored, bool kSigns>
SumRow sum_row_for(const Uses& uses) {
    if (!uses.ring) return Row<kStored, kSigns, Ring::kNone>::run;
    return uses.rectify ? Row<kStored, kSigns, Ring::kRectified>::run : Row<kStored, kSigns, Ring::kPlain>::run;
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

void pool_row(const TermRow& row, const float* source, int width, float* scratch, float* values) {
    const Term& term = *row.term;
    if (term.kernel == 3 && term.stride == 1 && term.padding == 1 && width > 1) {
        const auto pool = row.rows == 3 ? pool_around<3> : row.rows == 2 ? pool_around<2> : pool_around<1>;
        return pool(source, row.row_floats, width, values);
    }
    const int floats = term.width * kLanes;
    const float* columns = source;
    for (int y = 1; y < row.rows; ++y) {
        const float* next = source + y * row.row_floats;
        for (int i = 0; i < floats; i += kWidth) store(scratch + i, load(columns + i) + load(next + i));
        columns = scratch;
    }
    for (int x = 0; x < width; ++x) {
        const int left = std::max(x * term.stride - term.padding, 0);
        const int count = std::min(x * term.stride - term.padding + term.kernel, term.width) - left;
        const float share = 1.0f / static_cast<float>(row.rows * count);
        for (int part = 0; part < kParts; ++part) {
            const float* from = columns + left * kLanes + part * kWidth;
            Vector sum = load(from);
            for (int column = 1; column < count; ++column) sum += load(from + column * kLanes);
            store(values + x * kLanes + part * kWidth, sum * share);
        }
    }
}

SumRow sum_row_for(const Uses& uses) {
    if (uses.stored) return uses.signs ? sum_row_for<true, true>(uses) : sum_row_for<true, false>(uses);
    return uses.signs ? sum_row_for<false, true>(uses) : sum_row_for<false, false>(uses);
}

}  // namespace tfnas
