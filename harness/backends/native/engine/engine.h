// Runs a program: one thread, one pass after the other, memory kept from run to run.
#pragma once

#include <vector>

#include "buffer.h"
#include "codes.h"
#include "convolution.h"
#include "prefetch.h"
#include "program.h"
#include "rows.h"

namespace tfnas {

class Engine {
public:
    // Run on images [batch][channels][height][width] and add the equal codes of each pair of images to
    // kernel, int64 [batch][batch]. Throws std::bad_alloc.
    void run(const Program& program, const float* images, int64_t* kernel);

    // The arena as the last run left it.
    const float* arena() const { return arena_.data(); }

private:
    // Rows of the value of a pass that convolutions can still read.
    static constexpr int kRingRows = 6;

    void guard(const Pass& pass);
    void unguard();
    void load_images(const float* images);
    void run_pass(const Pass& pass, bool reversed);
    void reserve(const Pass& pass);
    void run_group(const Pass& pass, int group, int next);
    void fetch_ahead(const Pass& pass, int group, int begin, int end);
    void produce_row(const Pass& pass, int group, int y, SignWriter& signs);
    void gather(const Pass& pass, int channel);
    void convolve_strip(const Pass& pass, int group, int y);
    void convolve_winograd(const Pass& pass, int group, int y, const float* const* rows);
    void convolve_direct(const Convolution& convolution, const Pass& pass, int group, int y,
                         const float* const* rows, Moments* moments);
    void fold(int64_t affine, const double* totals, int channels, int64_t pixels);

    int images_of(int group) const;
    // Words from one image's signs to the next, a cache line off the powers of 2.
    int64_t row_step() const { return row_words_ + 16; }
    int64_t ring_floats(const Pass& pass) const { return int64_t{pass.channels} * (pass.width + 2) * kLanes; }
    float* ring_row(const Pass& pass, int y) { return ring_.data() + (y % kRingRows) * ring_floats(pass); }
    const Convolution* begin(const Pass& pass) const { return program_->convolutions + pass.convolution_begin; }
    const Convolution* end(const Pass& pass) const { return program_->convolutions + pass.convolution_end; }
    Moments* moments_of(const Pass& pass, const Convolution& convolution);

    const Program* program_ = nullptr;
    int groups_ = 0;
    Buffer<float> arena_, affine_, ring_, pooled_, strip_, transformed_, products_;
    Prefetch ahead_;
    Buffer<double> sums_, totals_;
    Buffer<uint32_t> bits_;
    int64_t row_words_ = 0;
    // Of the value of the pass, where it is normalised, and of each convolution.
    std::vector<Moments> moments_;
    std::vector<TermRow> rows_;
    std::vector<Summand> summands_;
};

}  // namespace tfnas
