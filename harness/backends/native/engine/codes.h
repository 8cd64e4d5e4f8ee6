// Signs of ReLU inputs as bits, and the kernel matrix that they give.
#pragma once

#include <algorithm>

#include "vector.h"

namespace tfnas {

// Writes the signs of one group's images, 32 units a word, to rows of `row_words` words, `row_step` apart.
class SignWriter {
public:
    SignWriter(uint32_t* rows, int64_t row_words, int64_t row_step)
        : rows_(rows), row_words_(row_words), row_step_(row_step) {}

    // Append the units values > 0 of kPixels pixels.
    template <int kPixels>
    inline __attribute__((always_inline)) void add(const Vector* values) {
        Integers codes[kParts] = {};
#pragma GCC unroll 8
        for (int pixel = 0; pixel < kPixels; ++pixel)
#pragma GCC unroll 4
            for (int part = 0; part < kParts; ++part)
                // A comparison gives -1 where it holds.
                codes[part] = codes[part] + codes[part] -
                              reinterpret_cast<Integers>(values[pixel * kParts + part] > Vector{});
        const int over = filled_ + kPixels - 32;
        if (over < 0) {
            for (int part = 0; part < kParts; ++part) words_[part] = words_[part] << kPixels | codes[part];
            filled_ += kPixels;
        } else {
            for (int part = 0; part < kParts; ++part)
                words_[part] = words_[part] << (kPixels - over) | codes[part] >> over;
            write();
            for (int part = 0; part < kParts; ++part) words_[part] = codes[part] & ((1u << over) - 1);
            filled_ = over;
        }
    }

    // Fill the rows up with zeros.
    void finish() {
        while (filled_ || written_ < row_words_) write();
    }

private:
    void write() {
        alignas(64) uint32_t word[kLanes];
        for (int part = 0; part < kParts; ++part) {
            *reinterpret_cast<Integers*>(word + part * kWidth) = words_[part];
            words_[part] = Integers{};
        }
        for (int lane = 0; lane < kLanes; ++lane) rows_[lane * row_step_ + written_] = word[lane];
        ++written_;
        filled_ = 0;
    }

    uint32_t* rows_;
    int64_t row_words_, row_step_, written_ = 0;
    Integers words_[kParts] = {};
    int filled_ = 0;
};

// Add multiplicity * (units - Hamming distance of rows i and j) to kernel[i][j], int64 [images][images].
// bits: [images] rows of `words` words of 64 units, `step` apart, those past `units` equal in all rows.
void add_equal_bits(const uint64_t* bits, int64_t step, int64_t words, int64_t units, int images,
                    int64_t multiplicity, int64_t* kernel);

}  // namespace tfnas
