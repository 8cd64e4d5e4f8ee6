// What Python calls (see library.py).
#include <cstring>

#include "engine.h"

#define TFNAS_EXPORT extern "C" __attribute__((visibility("default")))

TFNAS_EXPORT tfnas::Engine* tfnas_create() { return new (std::nothrow) tfnas::Engine; }

TFNAS_EXPORT void tfnas_destroy(tfnas::Engine* engine) { delete engine; }

// 0, or 1 where memory does not suffice.
TFNAS_EXPORT int tfnas_run(tfnas::Engine* engine, const tfnas::Program* program, const float* images,
                           int64_t* kernel) {
    try {
        engine->run(*program, images, kernel);
    } catch (const std::bad_alloc&) {
        return 1;
    }
    return 0;
}

// Copy `count` floats of the arena.
TFNAS_EXPORT void tfnas_read(const tfnas::Engine* engine, int64_t offset, int64_t count, float* to) {
    std::memcpy(to, engine->arena() + offset, static_cast<size_t>(count) * sizeof(float));
}

// Whether products and sums are rounded once: such builds give the same bits.
TFNAS_EXPORT int tfnas_fused() {
#if defined(__FMA__)
    return 1;
#else
    return 0;
#endif
}

// Highest x86-64 level that this processor runs, of those that builds exist for; 1 on others.
TFNAS_EXPORT int tfnas_level() {
#if defined(__x86_64__)
    const bool level_3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                         __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2") &&
                         __builtin_cpu_supports("popcnt");
    const bool level_4 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                         __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
                         __builtin_cpu_supports("avx512vl");
    return !level_3 ? 1 : !level_4 ? 3 : 4;
#else
    return 1;
#endif
}
