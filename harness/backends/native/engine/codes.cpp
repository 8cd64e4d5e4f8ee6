#include "codes.h"

#include <cstring>
#include <numeric>

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

// Write the distance between a row and each of `count` others, `step` apart.
using Distances = void (*)(const uint64_t* row, const uint64_t* others, int64_t step, int64_t words, int count,
                           int64_t* distances);

void distances_by_adders(const uint64_t* row, const uint64_t* others, int64_t step, int64_t words, int count,
                         int64_t* distances) {
    for (int i = 0; i < count; ++i) distances[i] = distance(row, others + i * step, words);
}

#if defined(__AVX512F__)
// Processors of level 4 need not count bits of vectors, but most do.
#define TFNAS_COUNTS_VECTORS __attribute__((target("avx512vpopcntdq")))

template <int kCount>
TFNAS_COUNTS_VECTORS void count_vectors(const uint64_t* row, const uint64_t* others, int64_t step, int64_t words,
                                        int64_t* distances) {
    __m512i sums[kCount] = {};
    int64_t word = 0;
    for (; word + kWords <= words; word += kWords) {
        const __m512i mine = _mm512_loadu_si512(row + word);
#pragma GCC unroll 8
        for (int i = 0; i < kCount; ++i) {
            const __m512i difference = _mm512_xor_si512(mine, _mm512_loadu_si512(others + i * step + word));
            sums[i] = _mm512_add_epi64(sums[i], _mm512_popcnt_epi64(difference));
        }
    }
    for (int i = 0; i < kCount; ++i) {
        alignas(64) int64_t lanes[kWords];
        _mm512_store_si512(lanes, sums[i]);
        distances[i] = std::accumulate(lanes, lanes + kWords, int64_t{0});
        for (int64_t rest = word; rest < words; ++rest)
            distances[i] += __builtin_popcountll(row[rest] ^ others[i * step + rest]);
    }
}

TFNAS_COUNTS_VECTORS void distances_by_vectors(const uint64_t* row, const uint64_t* others, int64_t step,
                                               int64_t words, int count, int64_t* distances) {
    if (count == kRows) return count_vectors<kRows>(row, others, step, words, distances);
    for (int i = 0; i < count; ++i) count_vectors<1>(row, others + i * step, step, words, distances + i);
}
#endif

Distances fastest_distances() {
#if defined(__AVX512F__)
    if (__builtin_cpu_supports("avx512vpopcntdq")) return distances_by_vectors;
#endif
    return distances_by_adders;
}

}  // namespace

void add_equal_bits(const uint64_t* bits, int64_t step, int64_t words, int64_t units, int images,
                    int64_t multiplicity, int64_t* kernel) {
    const Distances distances = fastest_distances();
    for (int first = 0; first < images; first += kRows) {
        const int end = std::min(first + kRows, images);
        for (int i = 0; i < end; ++i) {
            const int begin = std::max(first, i);
            int64_t differing[kRows];
            distances(bits + i * step, bits + begin * step, step, words, end - begin, differing);
            for (int j = begin; j < end; ++j) {
                const int64_t equal = multiplicity * (units - differing[j - begin]);
                kernel[int64_t{i} * images + j] += equal;
                if (i != j) kernel[int64_t{j} * images + i] += equal;
            }
        }
    }
}

}  // namespace tfnas
