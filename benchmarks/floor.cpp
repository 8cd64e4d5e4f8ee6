// What one core of this processor can do at best: multiply-adds in registers, and reads by level of memory.
#include <algorithm>
#include <chrono>
#include <cstdio>

#include "buffer.h"
#include "vector.h"

using tfnas::Vector;
using tfnas::kWidth;

// Sums that do not wait for each other: more than a processor adds in the time of one addition, fewer than registers.
constexpr int kSums = 12;

// Seconds of the fastest of a few runs: what else the machine does only makes it slower.
template <typename Work>
double fastest(Work work) {
    double best = 1e9;
    for (int run = 0; run < 5; ++run) {
        const auto start = std::chrono::steady_clock::now();
        work();
        best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    }
    return best;
}

// Keeps what has been computed from being left out.
void use(const Vector* sums) {
    volatile float sink = 0;
    for (int i = 0; i < kSums; ++i) sink = sink + sums[i][0];
}

double flops() {
    constexpr long kRounds = 20'000'000;
    const double seconds = fastest([] {
        Vector sums[kSums];
        for (int i = 0; i < kSums; ++i) sums[i] = Vector{} + static_cast<float>(i);
        const Vector factor = Vector{} + 0.999f, step = Vector{} + 0.001f;
        for (long round = 0; round < kRounds; ++round)
#pragma GCC unroll 16
            for (int i = 0; i < kSums; ++i) sums[i] = tfnas::fused(sums[i], factor, step);
        use(sums);
    });
    return 2.0 * kRounds * kSums * kWidth / seconds;
}

double bytes_a_second(size_t kilobytes) {
    constexpr size_t kStep = kSums * kWidth;
    const size_t count = kilobytes * 1024 / sizeof(float) / kStep * kStep;
    const size_t repeats = std::max<size_t>(1, (size_t{1} << 30) / (count * sizeof(float)));
    tfnas::Buffer<float> memory;
    float* from = memory.reserve(count);
    std::fill(from, from + count, 0.0f);
    const double seconds = fastest([&] {
        Vector sums[kSums] = {};
        for (size_t repeat = 0; repeat < repeats; ++repeat)
            for (size_t at = 0; at < count; at += kStep)
#pragma GCC unroll 16
                for (int i = 0; i < kSums; ++i) sums[i] += tfnas::load(from + at + i * kWidth);
        use(sums);
    });
    return static_cast<double>(repeats * count * sizeof(float)) / seconds;
}

int main() {
    std::printf("%.0f\n", flops() / 1e9);
    for (const size_t kilobytes : {256, 8 << 10, 512 << 10}) std::printf("%.0f\n", bytes_a_second(kilobytes) / 1e9);
}
