#include "engine.h"

#include <algorithm>
#include <cmath>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

namespace tfnas {
namespace {

// torch's constant under the square root of batch norm.
constexpr double kEpsilon = 1e-5;

// Floats of one row of a group's feature map, [channels][width][kLanes].
int64_t row_floats(int channels, int width) { return int64_t{channels} * width * kLanes; }

// ReLU inputs of an image in the value of a pass.
int64_t units(const Pass& pass) { return int64_t{pass.channels} * pass.height * pass.width; }

// Floats of one channel of a pooled row and of the scratch it takes.
int64_t pooled_floats(const Pass& pass, const Term& term) { return (int64_t{pass.width} + term.width) * kLanes; }

}  // namespace

void Engine::run(const Program& program, const float* images, int64_t* kernel) {
    program_ = &program;
    groups_ = (program.batch + kLanes - 1) / kLanes;
    arena_.reserve(program.arena_floats);
    affine_.reserve(program.affine_floats);
    load_images(images);
    for (int64_t index = 0; index < program.pass_count; ++index) {
        const Pass& pass = program.passes[index];
        // Back and forth: a pass starts with the groups that the one before has left in cache.
        guard(pass);
        run_pass(pass, index % 2);
        if (pass.multiplicity)
            add_equal_bits(reinterpret_cast<const uint64_t*>(bits_.data()), row_step() / 2, row_words_ / 2,
                           units(pass), program.batch, pass.multiplicity, kernel);
    }
    unguard();
}

// All maps share one allocation. In builds for the address sanitizer only those that the pass names may be touched,
// so that a row too many is seen.
void Engine::guard([[maybe_unused]] const Pass& pass) {
#if defined(__SANITIZE_ADDRESS__)
    const auto allow = [this](int64_t offset, int64_t channels, int64_t height, int64_t width) {
        const int64_t floats = groups_ * channels * height * width * kLanes;
        ASAN_UNPOISON_MEMORY_REGION(arena_.data() + offset, floats * sizeof(float));
    };
    ASAN_POISON_MEMORY_REGION(arena_.data(), program_->arena_floats * sizeof(float));
    for (int index = pass.term_begin; index < pass.term_end; ++index) {
        const Term& term = program_->terms[index];
        allow(term.source, pass.channels, term.height, term.width);
    }
    if (pass.output >= 0) allow(pass.output, pass.channels, pass.height, pass.width);
    for (const Convolution* convolution = begin(pass); convolution != end(pass); ++convolution)
        allow(convolution->output, convolution->channels, convolution->height, convolution->width);
#endif
}

void Engine::unguard() {
#if defined(__SANITIZE_ADDRESS__)
    ASAN_UNPOISON_MEMORY_REGION(arena_.data(), program_->arena_floats * sizeof(float));
#endif
}

// Lanes past the batch hold zeros: they are computed with, and counted nowhere.
void Engine::load_images(const float* images) {
    const int64_t plane = int64_t{program_->height} * program_->width;
    float* to = arena_.data();
    for (int group = 0; group < groups_; ++group)
        for (int y = 0; y < program_->height; ++y)
            for (int channel = 0; channel < program_->channels; ++channel)
                for (int x = 0; x < program_->width; ++x, to += kLanes)
                    for (int lane = 0; lane < kLanes; ++lane) {
                        const int64_t image = int64_t{group} * kLanes + lane;
                        const int64_t row = (image * program_->channels + channel) * plane + y * program_->width;
                        to[lane] = lane < images_of(group) ? images[row + x] : 0;
                    }
}

int Engine::images_of(int group) const { return std::min(kLanes, program_->batch - group * kLanes); }

void Engine::run_pass(const Pass& pass, bool reversed) {
    reserve(pass);
    const int first = reversed ? groups_ - 1 : 0, direction = reversed ? -1 : 1;
    for (int step = 0; step < groups_; ++step) {
        const int group = first + step * direction;
        run_group(pass, group, step + 1 < groups_ ? group + direction : group);
    }
    const double* totals = totals_.data();
    if (pass.affine >= 0) {
        fold(pass.affine, totals, pass.channels, int64_t{pass.height} * pass.width);
        totals += int64_t{groups_} * 2 * pass.channels;
    }
    for (const Convolution* convolution = begin(pass); convolution != end(pass); ++convolution)
        if (convolution->affine >= 0) {
            const int64_t pixels = int64_t{convolution->height} * convolution->width;
            fold(convolution->affine, totals, convolution->channels, pixels);
            totals += int64_t{groups_} * 2 * convolution->channels;
        }
}

// Make room for what the pass needs beside the arena.
void Engine::reserve(const Pass& pass) {
    row_words_ = (units(pass) + 63) / 64 * 2;
    if (pass.multiplicity) bits_.reserve(groups_ * kLanes * row_step());
    int64_t pooled = 0;
    for (int term = pass.term_begin; term < pass.term_end; ++term)
        if (program_->terms[term].kernel) pooled += pooled_floats(pass, program_->terms[term]);
    pooled_.reserve(pooled);

    std::vector<int> normalised;
    if (pass.affine >= 0) normalised.push_back(pass.channels);
    for (const Convolution* convolution = begin(pass); convolution != end(pass); ++convolution) {
        if (convolution->affine >= 0) normalised.push_back(convolution->channels);
        if (convolution->winograd) {
            const WinogradBlock block(pass.channels, pass.width);
            transformed_.reserve(block.transformed_floats());
            products_.reserve(block.product_floats());
        }
    }
    int64_t channels = 0;
    for (const int count : normalised) channels += count;
    totals_.reserve(groups_ * 2 * channels);
    const int64_t size = Moments::size(static_cast<int>(channels));
    double* sums = sums_.reserve(size);
    float* strip = strip_.reserve(size);
    moments_.clear();
    for (const int count : normalised) {
        moments_.emplace_back(sums, strip, count);
        sums += Moments::size(count);
        strip += Moments::size(count);
    }

    if (begin(pass) != end(pass)) {
        // The padding is written once here: rows are written between it. The last row stays zero.
        float* ring = ring_.reserve((kRingRows + 1) * ring_floats(pass));
        std::fill(ring, ring + (kRingRows + 1) * ring_floats(pass), 0.0f);
    }
}

// `next` is the group that follows, or the same again.
void Engine::run_group(const Pass& pass, int group, int next) {
    for (Moments& moments : moments_) moments.clear();
    SignWriter signs(bits_.data() + (pass.multiplicity ? group * kLanes * row_step() : 0), row_words_, row_step());
    int produced = 0;
    for (int y = 0; y < pass.height; y += kStrip) {
        const int last = std::min(pass.height, y + kStrip + 1);
        for (; produced < last; ++produced) produce_row(pass, group, produced, signs);
        if (last < pass.height)
            fetch_ahead(pass, group, last, std::min(pass.height, last + kStrip));
        else
            fetch_ahead(pass, next, 0, std::min(pass.height, kStrip + 1));
        convolve_strip(pass, group, y);
        for (Moments& moments : moments_) moments.join();
    }
    if (pass.multiplicity) signs.finish();
    double* totals = totals_.data();
    for (const Moments& moments : moments_) {
        moments.total(images_of(group), totals + int64_t{group} * 2 * moments.channels());
        totals += int64_t{groups_} * 2 * moments.channels();
    }
}

// Have the convolutions of this strip fetch what rows begin to end of the value are made of.
void Engine::fetch_ahead(const Pass& pass, int group, int begin, int end) {
    ahead_.clear();
    for (int index = pass.term_begin; index < pass.term_end; ++index) {
        const Term& term = program_->terms[index];
        const int64_t floats = row_floats(pass.channels, term.width);
        const int first = rows_read(term, begin), last = rows_read(term, end);
        ahead_.add(arena_.data() + term.source + (int64_t{group} * term.height + first) * floats,
                   (last - first) * floats);
    }
    int64_t calls = 0;
    for (const Convolution* convolution = this->begin(pass); convolution != this->end(pass); ++convolution)
        calls += advances_per_strip(*convolution, pass.channels, pass.width);
    ahead_.spread(calls);
}

void Engine::produce_row(const Pass& pass, int group, int y, SignWriter& signs) {
    const int64_t floats = row_floats(pass.channels, pass.width);
    rows_.clear();
    for (int term = pass.term_begin; term < pass.term_end; ++term)
        rows_.push_back(term_row(program_->terms[term], arena_.data(), affine_.data(), group, pass.channels, y));
    summands_.resize(rows_.size());
    float* stored = nullptr;
    if (pass.output >= 0) stored = arena_.data() + pass.output + (int64_t{group} * pass.height + y) * floats;
    float* ring = begin(pass) != end(pass) ? ring_row(pass, y) + kLanes : nullptr;
    Uses uses = {stored, ring, pass.rectify != 0, pass.multiplicity ? &signs : nullptr};
    const SumRow sum_row = sum_row_for(uses);
    for (int channel = 0; channel < pass.channels; ++channel) {
        gather(pass, channel);
        sum_row(summands_.data(), summands_.data() + summands_.size(), pass.width, uses);
        if (pass.affine >= 0) moments_[0].add_row<1>(channel, uses.stored, 0, pass.width);
        if (stored) uses.stored += pass.width * kLanes;
        if (ring) uses.ring += (pass.width + 2) * kLanes;
    }
}

// The terms of one channel of the row in `rows_`, pooled ones pooled.
void Engine::gather(const Pass& pass, int channel) {
    float* pooled = pooled_.data();
    Summand* summand = summands_.data();
    for (const TermRow& row : rows_) {
        const float* source = row.source + int64_t{channel} * row.term->width * kLanes;
        if (row.term->kernel) {
            pool_row(row, source, pass.width, pooled + pass.width * kLanes, pooled);
            source = pooled;
            pooled += pooled_floats(pass, *row.term);
        }
        *summand++ = {source, row.scale ? row.scale[channel] : 1, row.scale ? row.shift[channel] : 0};
    }
}

void Engine::convolve_strip(const Pass& pass, int group, int y) {
    if (begin(pass) == end(pass)) return;
    const float* rows[kStrip + 2];
    for (int i = 0; i < kStrip + 2; ++i) {
        const int source = y - 1 + i;
        const bool inside = source >= 0 && source < pass.height;
        rows[i] = inside ? ring_row(pass, source) : ring_.data() + kRingRows * ring_floats(pass);
    }
    convolve_winograd(pass, group, y, rows);
    for (const Convolution* convolution = begin(pass); convolution != end(pass); ++convolution)
        if (!convolution->winograd)
            convolve_direct(*convolution, pass, group, y, rows, moments_of(pass, *convolution));
}

void Engine::convolve_winograd(const Pass& pass, int group, int y, const float* const* rows) {
    if (std::none_of(begin(pass), end(pass), [](const Convolution& each) { return each.winograd; })) return;
    const WinogradBlock block(pass.channels, pass.width);
    const int tiles = pass.width / WinogradBlock::kTile;
    for (int first = 0; first < tiles; first += block.tiles()) {
        const int count = std::min(block.tiles(), tiles - first), x = first * WinogradBlock::kTile;
        block.transform(rows, x, count, transformed_.data());
        for (const Convolution* convolution = begin(pass); convolution != end(pass); ++convolution) {
            if (!convolution->winograd) continue;
            const int64_t floats = row_floats(convolution->channels, pass.width);
            float* output = arena_.data() + convolution->output + (int64_t{group} * pass.height + y) * floats;
            block.multiply(*convolution, transformed_.data(), x, count, products_.data(), output, floats,
                           moments_of(pass, *convolution), ahead_);
        }
    }
}

// rows: kStrip + 2, the first is row y - 1.
void Engine::convolve_direct(const Convolution& convolution, const Pass& pass, int group, int y,
                             const float* const* rows, Moments* moments) {
    const int64_t floats = row_floats(convolution.channels, convolution.width);
    const int above = convolution.kernel / 2;
    for (int source = y; source < std::min(y + kStrip, pass.height); source += convolution.stride) {
        const int64_t row = int64_t{group} * convolution.height + source / convolution.stride;
        convolve_row(convolution, rows + (source - y) + 1 - above, pass.channels, pass.width,
                     arena_.data() + convolution.output + row * floats, moments, ahead_);
    }
}

Moments* Engine::moments_of(const Pass& pass, const Convolution& convolution) {
    if (convolution.affine < 0) return nullptr;
    size_t index = pass.affine >= 0;
    for (const Convolution* before = begin(pass); before != &convolution; ++before) index += before->affine >= 0;
    return &moments_[index];
}

// Scale and shift that normalise channels, from totals [groups][channels][2] of `pixels` an image.
void Engine::fold(int64_t affine, const double* totals, int channels, int64_t pixels) {
    const double count = static_cast<double>(pixels) * program_->batch;
    for (int channel = 0; channel < channels; ++channel) {
        double sum = 0, squares = 0;
        for (int group = 0; group < groups_; ++group) {
            sum += totals[(int64_t{group} * channels + channel) * 2];
            squares += totals[(int64_t{group} * channels + channel) * 2 + 1];
        }
        const double mean = sum / count, variance = std::max(squares / count - mean * mean, 0.0);
        const double scale = 1 / std::sqrt(variance + kEpsilon);
        affine_.data()[affine + channel] = static_cast<float>(scale);
        affine_.data()[affine + channels + channel] = static_cast<float>(-mean * scale);
    }
}

}  // namespace tfnas
