// Vectors of floats across images: the one place that knows how wide the processor's registers are.
#pragma once

#include <cstdint>

#if defined(__FMA__)
#include <immintrin.h>
#endif

namespace tfnas {

// Images of a group. They lie side by side in memory as the lanes of one pixel, so that pixels, padding and
// channels are never cut by a vector.
constexpr int kLanes = 16;

#if defined(__AVX512F__)
constexpr int kWidth = 16;
#elif defined(__AVX2__)
constexpr int kWidth = 8;
#else
constexpr int kWidth = 4;
#endif

// Vectors that make up one pixel of a group.
constexpr int kParts = kLanes / kWidth;

typedef float Vector __attribute__((vector_size(kWidth * 4), may_alias));
typedef uint32_t Integers __attribute__((vector_size(kWidth * 4), may_alias));

inline Vector load(const float* from) { return *reinterpret_cast<const Vector*>(from); }

inline void store(float* to, Vector value) { *reinterpret_cast<Vector*>(to) = value; }

// Compilers fold the subtraction of +0 away: it changes no float.
inline Vector broadcast(float value) { return value - Vector{}; }

inline Vector positive_part(Vector value) { return value > Vector{} ? value : Vector{}; }

// a * b + c, rounded once where the processor can. Never left to the compiler's choice, so that all builds
// with fused arithmetic give the same bits.
inline Vector fused(Vector a, Vector b, Vector c) {
#if defined(__AVX512F__)
    return reinterpret_cast<Vector>(_mm512_fmadd_ps(a, b, c));
#elif defined(__FMA__)
    return reinterpret_cast<Vector>(_mm256_fmadd_ps(a, b, c));
#else
    return a * b + c;
#endif
}

}  // namespace tfnas
