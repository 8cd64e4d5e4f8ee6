#include "codes.h"

#include <cstring>

namespace tfnas {
namespace {

constexpr int kWords = kWidth / 2;
typedef uint64_t Words __attribute__((vector_size(kWords * 8), may_alias, aligned(8)));

// Vectors whose bits are counted together.
constexpr int kCounted = 8;

// Rows that stay in cache while all others pass by.
constexpr int kRows = 8;

// Sum of three bits in each place: `sum` holds its low bit after, the result is its high bit.
inline Words add_bits(Words& sum, Words a, Words b) {
    const Words partial = sum ^ a;
    const Words carry = (sum & a) | (partial & b);
    sum = partial ^ b;
    return carry;
}

inline int64_t population(Words words) {
    uint64_t each[kWords];
    std::memcpy(each, &words, sizeof words);
    int64_t count = 0;
    for (int i = 0; i < kWords; ++i) count += __builtin_popcountll(each[i]);
    return count;
}

// Number of bits that differ. Eight vectors go through a tree of adders, so that only one in eight is counted
// (Harley and Seal; Mula, Kurz and Lemire, The Computer Journal 2018).
int64_t distance(const uint64_t* row, const uint64_t* other, int64_t words) {
    int64_t word = 0, eights = 0;
    Words ones = {}, twos = {}, fours = {};
    for (; word + kCounted * kWords <= words; word += kCounted * kWords) {
        Words difference[kCounted];
#pragma GCC unroll 8
        for (int i = 0; i < kCounted; ++i)
            difference[i] = *reinterpret_cast<const Words*>(row + word + i * kWords) ^
                            *reinterpret_cast<const Words*>(other + word + i * kWords);
        const Words two_a = add_bits(ones, difference[0], difference[1]);
        const Words two_b = add_bits(ones, difference[2], difference[3]);
        const Words four_a = add_bits(twos, two_a, two_b);
        const Words two_c = add_bits(ones, difference[4], difference[5]);
        const Words two_d = add_bits(ones, difference[6], difference[7]);
        const Words four_b = add_bits(twos, two_c, two_d);
        eights += population(add_bits(fours, four_a, four_b));
    }
    int64_t count = 8 * eights + 4 * population(fours) + 2 * population(twos) + population(ones);
    for (; word < words; ++word) count += __builtin_popcountll(row[word] ^ other[word]);
    return count;
}

}  // namespace

void add_equal_bits(const uint64_t* bits, int64_t step, int64_t words, int64_t units, int images,
                    int64_t multiplicity, int64_t* kernel) {
    for (int first = 0; first < images; first += kRows)
        for (int i = 0; i < images; ++i)
            for (int j = std::max(first, i); j < std::min(first + kRows, images); ++j) {
                const int64_t equal = multiplicity * (units - distance(bits + i * step, bits + j * step, words));
                kernel[int64_t{i} * images + j] += equal;
                if (i != j) kernel[int64_t{j} * images + i] += equal;
            }
}

}  // namespace tfnas
