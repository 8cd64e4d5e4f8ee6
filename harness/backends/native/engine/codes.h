// Signs of ReLU inputs as bits, and the kernel matrix that they give.
#pragma once

#include <algorithm>

#include "vector.h"

namespace tfnas {

// Writes the signs of one group's images, 32 units a word, to rows of `row_words` words.
class SignWriter {
public:
    SignWriter(uint32_t* rows, int64_t row_words) : rows_(rows), row_words_(row_words) {}

    // Append the units values > 0, [pixels][kLanes].
    void add(const float* values, int pixels) {
        while (pixels > 0) {
            const int count = std::min(pixels, 32 - filled_);
            Integers words[kParts];
            for (int part = 0; part < kParts; ++part) words[part] = words_[part];
            for (int i = 0; i < count; ++i)
#pragma GCC unroll 4
                for (int part = 0; part < kParts; ++part) {
                    // A comparison gives -1 where it holds.
                    const Vector value = load(values + i * kLanes + part * kWidth);
                    words[part] = words[part] + words[part] - reinterpret_cast<Integers>(value > Vector{});
                }
            for (int part = 0; part < kParts; ++part) words_[part] = words[part];
            values += count * kLanes;
            pixels -= count;
            filled_ += count;
            if (filled_ == 32) write();
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
        for (int lane = 0; lane < kLanes; ++lane) rows_[lane * row_words_ + written_] = word[lane];
        ++written_;
        filled_ = 0;
    }

    uint32_t* rows_;
    int64_t row_words_, written_ = 0;
    Integers words_[kParts] = {};
    int filled_ = 0;
};

// Add multiplicity * (units - Hamming distance of rows i and j) to kernel[i][j], int64 [images][images].
// bits: [images][words] of 64 units, those past `units` equal in all rows.
void add_equal_bits(const uint64_t* bits, int64_t words, int64_t units, int images, int64_t multiplicity,
                    int64_t* kernel);

}  // namespace tfnas
