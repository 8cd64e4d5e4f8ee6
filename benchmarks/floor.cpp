// What one core of this processor can do at best: multiply-adds in registers, and reads by level of memory.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <vector>

#if defined(__AVX512F__)
constexpr int kWidth = 16;
#elif defined(__AVX2__)
constexpr int kWidth = 8;
#else
constexpr int kWidth = 4;
#endif

typedef float Vector __attribute__((vector_size(kWidth * 4)));

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
            for (int i = 0; i < kSums; ++i) sums[i] = sums[i] * factor + step;
        use(sums);
    });
    return 2.0 * kRounds * kSums * kWidth / seconds;
}

double bytes_a_second(size_t kilobytes) {
    const size_t count = kilobytes * 1024 / sizeof(Vector) / kSums * kSums;
    const size_t repeats = std::max<size_t>(1, (size_t{1} << 30) / (count * sizeof(Vector)));
    std::vector<Vector> memory(count);
    const double seconds = fastest([&] {
        Vector sums[kSums] = {};
        for (size_t repeat = 0; repeat < repeats; ++repeat)
            for (size_t at = 0; at < count; at += kSums)
#pragma GCC unroll 16
                for (int i = 0; i < kSums; ++i) sums[i] += memory[at + i];
        use(sums);
    });
    return static_cast<double>(repeats * count * sizeof(Vector)) / seconds;
}

int main() {
    std::printf("%.0f\n", flops() / 1e9);
    for (const size_t kilobytes : {256, 8 << 10, 512 << 10}) std::printf("%.0f\n", bytes_a_second(kilobytes) / 1e9);
}
