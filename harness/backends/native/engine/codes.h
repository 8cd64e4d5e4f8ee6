// Signs of ReLU inputs as bits, and the kernel matrix that they give.
#pragma once

#include <algorithm>

#include "vector.h"

namespace tfnas {

// The codes of one pixel more: the lanes of values > 0.
inline Integers add_sign(Integers codes, Vector values) {
    // A comparison gives -1 where it holds.
    return codes + codes - reinterpret_cast<Integers>(values > Vector{});
}

// Writes the signs of one group's images, 32 units a word, to rows of `row_words` words, `row_step` apart.
class SignWriter {
public:
    SignWriter(uint32_t* rows, int64_t row_words, int64_t row_step)
        : rows_(rows), row_words_(row_words), row_step_(row_step) {}

    // Append the `count` low bits of each lane, 1 to 32 of them; higher ones are zero.
    void add(const Integers* codes, int count) {
        const int over = filled_ + count - 32;
        if (over < 0) {
            for (int part = 0; part < kParts; ++part) words_[part] = words_[part] << count | codes[part];
            filled_ += count;
        } else {
            for (int part = 0; part < kParts; ++part) {
                // A shift by all 32 bits is not defined; nothing is in the word then.
                const Integers before = filled_ ? words_[part] << (count - over) : Integers{};
                words_[part] = before | codes[part] >> over;
            }
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
