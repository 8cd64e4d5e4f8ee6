"""The native backend: every step and random plans against float64, and the same bits whatever ran before."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from harness.backends.native import NativeBackend, library, unavailable
from harness.backends.native.lowering import checked_shapes
from harness.backends.native.program import assemble
from harness.backends.torch_backend import EPSILON, TorchBackend
from spaces.nasbench201 import NASBench201, NASBench201Config
from spaces.plan import IMAGES, AveragePool, BatchNorm, Convolution, Plan, ReLUCode, Sum, buffer_shapes
from spaces.weights import draw_weight

pytestmark = pytest.mark.skipif(unavailable() is not None, reason=f"no native backend: {unavailable()}")

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def backend():
    """One for all tests, so that each also runs after whatever ran before it."""
    return NativeBackend(CPU, 0)


def random_images(batch=6, channels=3, height=7, width=7, seed=1):
    return torch.randn(batch, channels, height, width, generator=torch.Generator().manual_seed(seed))


def normalised(x):
    return (x - x.mean((0, 2, 3), keepdim=True)) / (
        x.var((0, 2, 3), keepdim=True, unbiased=False) + EPSILON
    ).sqrt()


def exact_values(plan, images, seed=0):
    """Every buffer of a plan in float64, by plain torch."""
    buffers = {IMAGES: images.double()}
    for step in plan.steps:
        match step:
            case Convolution():
                weight = torch.from_numpy(draw_weight(step.weight, step.shape, int(np.prod(step.shape[1:])), seed))
                source = buffers[step.source].relu() if step.rectify else buffers[step.source]
                output = F.conv2d(source, weight.double(), stride=step.stride, padding=step.shape[2] // 2)
                buffers[step.output] = normalised(output) if step.normalise else output
            case AveragePool():
                buffers[step.output] = F.avg_pool2d(
                    buffers[step.source], step.kernel, step.stride, step.padding, count_include_pad=False
                )
            case Sum():
                buffers[step.output] = sum(buffers[term] for term in step.terms)
            case BatchNorm():
                buffers[step.output] = normalised(buffers[step.source])
    return buffers


def assert_values(backend, plan, images):
    """All buffers of a plan as float64 has them, together and one at a time."""
    names = [name for name, _ in buffer_shapes(plan)]
    expected = exact_values(plan, images)
    together = backend.values(plan, images, names)
    for name in names:
        torch.testing.assert_close(together[name].double(), expected[name], rtol=1e-3, atol=1e-3)
    alone = backend.values(plan, images, names[-1:])[names[-1]]
    torch.testing.assert_close(alone.double(), expected[names[-1]], rtol=1e-3, atol=1e-3)


def equal_signs(plan, values):
    """K from the values of the buffers that codes read."""
    total = 0
    for step in plan.steps:
        if isinstance(step, ReLUCode):
            signs = (values[step.source] > 0).flatten(1).long()
            total += step.multiplicity * (signs @ signs.T + (1 - signs) @ (1 - signs).T)
    return np.asarray(total)


SIZES = [(8, 8), (7, 9), (4, 12), (1, 1), (2, 5), (40, 36)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("stride", [1, 2])
def test_convolution(backend, kernel, stride, size):
    steps = [
        Convolution(f"{rectify}{normalise}", IMAGES, "w", (20, 5, kernel, kernel), stride, rectify, normalise)
        for rectify in (False, True)
        for normalise in (False, True)
    ]
    plan = Plan((5, *size), tuple(steps))
    images = random_images(18, *plan.input_shape)
    for step in steps:
        exact = exact_values(plan, images)[step.output]
        found = backend.values(plan, images, [step.output])[step.output]
        torch.testing.assert_close(found.double(), exact, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("channels", [1, 3, 4, 6, 64, 150])
def test_any_number_of_input_channels(backend, channels):
    plan = Plan((channels, 8, 8), (Convolution("y", IMAGES, "w", (36, channels, 3, 3)),))
    assert_values(backend, plan, random_images(5, *plan.input_shape))


@pytest.mark.parametrize("window", [(3, 1, 1), (2, 2, 0), (3, 2, 1), (5, 1, 2), (1, 3, 0), (4, 3, 2)])
@pytest.mark.parametrize("size", [(8, 8), (7, 9), (4, 5)])
def test_average_pool_does_not_count_the_padding(backend, window, size):
    plan = Plan((3, *size), (AveragePool("y", IMAGES, *window),))
    assert_values(backend, plan, random_images(17, *plan.input_shape))


def test_sum_counts_a_term_as_often_as_it_stands(backend):
    plan = Plan((3, 7, 7), (Sum("y", (IMAGES, IMAGES, IMAGES)),))
    assert torch.equal(
        backend.values(plan, random_images(), ["y"])["y"], random_images() + random_images() + random_images()
    )


def test_batch_norm_of_everything(backend):
    steps = (
        BatchNorm("of images", IMAGES),
        BatchNorm("of batch norm", "of images"),
        AveragePool("pool", "of images", 3, 1, 1),
        BatchNorm("of pool", "pool"),
        Sum("sum", ("of pool", "pool", IMAGES)),
        BatchNorm("of sum", "sum"),
        Convolution("plain", "sum", "w", (8, 3, 3, 3), normalise=False),
        BatchNorm("of plain convolution", "plain"),
        Convolution("convolution", "of sum", "v", (8, 3, 1, 1)),
        BatchNorm("of convolution", "convolution"),
        Sum("end", ("of plain convolution", "plain", "of convolution")),
    )
    assert_values(backend, Plan((3, 7, 7), steps), random_images())


def test_pool_of_pool_and_sum_of_sums(backend):
    steps = (
        Convolution("a", IMAGES, "w", (4, 3, 3, 3), rectify=False),
        AveragePool("b", "a", 3, 1, 1),
        AveragePool("c", "b", 3, 1, 1),
        Sum("d", ("b", "c", "a")),
        Sum("e", ("d", "b", "d")),
        AveragePool("f", "e", 2, 2, 0),
        Convolution("g", "f", "v", (4, 4, 1, 1)),
        Convolution("h", "f", "u", (4, 4, 3, 3), rectify=False),
    )
    assert_values(backend, Plan((3, 9, 8), steps), random_images(20, 3, 9, 8))


@pytest.mark.parametrize("batch", [1, 2, 15, 16, 17, 33])
def test_kernel_counts_equal_signs_of_any_batch(backend, batch):
    steps = (
        ReLUCode(IMAGES, 1),
        Convolution("a", IMAGES, "w", (12, 3, 3, 3), rectify=False),
        ReLUCode("a", 2),
        Convolution("b", "a", "v", (4, 12, 3, 3), stride=2),
        Sum("c", ("b", "b")),
        ReLUCode("c", 1),
        ReLUCode("b", 3),
        ReLUCode("c", 5),
    )
    plan = Plan((3, 9, 11), steps, off_units=7)
    images = random_images(batch, *plan.input_shape)
    values = backend.values(plan, images, ["a", "b", "c"]) | {IMAGES: images}
    assert (backend.kernel(plan, images) == equal_signs(plan, values) + 7).all()


def test_units_that_are_0_or_nan_are_off(backend):
    plan = Plan((1, 1, 4), (ReLUCode(IMAGES, 1),))
    images = torch.tensor([[0.0, -0.0, -1.0, float("nan")], [1e-30, 0.0, -1.0, -1.0]]).reshape(2, 1, 1, 4)
    assert backend.kernel(plan, images).tolist() == [[4, 3], [3, 4]]


def test_plan_without_codes_has_no_kernel_and_off_units_alone_are_counted(backend):
    assert backend.kernel(Plan((3, 7, 7), ()), random_images()) is None
    assert (backend.kernel(Plan((3, 7, 7), (), off_units=5), random_images()) == 5).all()


@st.composite
def plans(draw):
    """Any plan of a few steps that is well formed and supported."""
    shape = (draw(st.integers(1, 5)), draw(st.integers(3, 13)), draw(st.integers(3, 13)))
    shapes, steps = {IMAGES: shape}, []
    for index in range(draw(st.integers(1, 9))):
        source = draw(st.sampled_from(sorted(shapes)))
        kind = draw(st.sampled_from(["convolution", "convolution", "pool", "sum", "norm", "code"]))
        output = f"{index}"
        if kind == "convolution":
            kernel = draw(st.sampled_from([1, 3]))
            weight = (4 * draw(st.integers(1, 5)), shapes[source][0], kernel, kernel)
            stride = draw(st.sampled_from([1, 1, 2]))
            steps.append(
                Convolution(output, source, f"w{index}", weight, stride, draw(st.booleans()), draw(st.booleans()))
            )
        elif kind == "pool":
            window = draw(st.sampled_from([(3, 1, 1), (2, 2, 0), (3, 2, 1)]))
            if min(shapes[source][1:]) < 2:
                continue
            steps.append(AveragePool(output, source, *window))
        elif kind == "sum":
            alike = sorted(name for name in shapes if shapes[name] == shapes[source])
            steps.append(Sum(output, tuple(draw(st.lists(st.sampled_from(alike), min_size=1, max_size=4)))))
        elif kind == "norm":
            steps.append(BatchNorm(output, source))
        else:
            steps.append(ReLUCode(source, draw(st.integers(1, 3))))
        shapes = dict(buffer_shapes(Plan(shape, tuple(steps))))
    return Plan(shape, tuple(steps))


@settings(max_examples=60, deadline=None)
@given(plan=plans(), batch=st.integers(2, 35), seed=st.integers(0, 99))
def test_random_plans_as_float64_has_them(backend, plan, batch, seed):
    images = random_images(batch, *plan.input_shape, seed=seed)
    assert_values(backend, plan, images)
    values = backend.values(plan, images, [name for name, _ in buffer_shapes(plan)])
    kernel = backend.kernel(plan, images)
    if kernel is not None:
        assert abs(kernel - equal_signs(plan, values)).max() <= 0.002 * kernel.max() + 1


def score(kernel):
    return np.linalg.slogdet(kernel.astype(float))[1]


@pytest.mark.parametrize(
    ("config", "batch", "cells"),
    [
        (NASBench201Config(channels=8, cells=2, image_size=20), 21, 8),
        (NASBench201Config(channels=16, cells=5), 64, 2),
    ],
)
@pytest.mark.parametrize("counting", ["live", "all"])
def test_cells_score_as_with_torch(backend, config, batch, cells, counting):
    space, reference = NASBench201(), TorchBackend(CPU, 0)
    images = random_images(batch, 3, config.image_size, config.image_size)
    for cell in space.sample_distinct(cells, np.random.default_rng(3)):
        plan = space.plan(cell, config, counting)
        ours, expected = backend.kernel(plan, images), reference.kernel(plan, images)
        assert (ours is None) == (expected is None)
        if ours is not None:
            assert np.diag(ours).tolist() == np.diag(expected).tolist()
            assert score(ours) == pytest.approx(score(expected), abs=1e-3)


def test_bits_do_not_depend_on_what_ran_before():
    space, config = NASBench201(), NASBench201Config(channels=16, cells=1)
    images = random_images(24, 3, 32, 32)
    cells = space.sample_distinct(6, np.random.default_rng(5))
    plans = [space.plan(cell, config, "live") for cell in cells]
    one = NativeBackend(CPU, 0)
    first = [one.kernel(plan, images) for plan in plans]
    again = [one.kernel(plan, images) for plan in reversed(plans)][::-1]
    fresh = [NativeBackend(CPU, 0).kernel(plan, images) for plan in plans]
    for kernel, *others in zip(first, again, fresh, strict=True):
        assert all((kernel is None and other is None) or (kernel == other).all() for other in others)


def test_memory_does_not_grow_with_depth():
    """Maps whose lives do not overlap share memory, so a deep network takes no more than a shallow one."""
    space = NASBench201()
    cell = space.parse(
        "|nor_conv_3x3~0|+|nor_conv_1x1~0|nor_conv_3x3~1|+|skip_connect~0|avg_pool_3x3~1|nor_conv_3x3~2|"
    )
    floats = []
    for cells in (2, 5):
        plan = space.plan(cell, NASBench201Config(cells=cells), "live")
        program = assemble(plan, checked_shapes(plan), 16, lambda convolution, winograd: 0)
        floats.append(program.record.arena_floats)
    largest = 16 * 16 * 32 * 32
    assert floats[0] == floats[1] <= 7 * largest


def test_every_build_is_right_and_fused_builds_have_the_same_bits():
    space, config = NASBench201(), NASBench201Config(channels=8, cells=1, image_size=20)
    images = random_images(20, 3, 20, 20)
    plan = space.plan(space.sample_distinct(1, np.random.default_rng(2))[0], config, "all")
    reference = TorchBackend(CPU, 0).kernel(plan, images)
    highest = library.Library(library.build(1)).level
    kernels = {}
    for level in library.LEVELS:
        if level <= highest and (build := library.build(level)):
            kernel = NativeBackend(CPU, 0, build).kernel(plan, images)
            assert score(kernel) == pytest.approx(score(reference), abs=1e-3)
            kernels[level] = kernel
    if 3 in kernels and 4 in kernels:
        assert (kernels[3] == kernels[4]).all()


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([Convolution("y", IMAGES, "w", (4, 5, 3, 3))], "convolves 5 channels; 'images' has 3"),
        ([ReLUCode("y", 1)], "reads 'y' before it is written"),
        ([Sum("y", ())], "no terms"),
        ([Sum("y", (IMAGES,)), Sum("y", (IMAGES,))], "'y' is written twice"),
        ([AveragePool("y", IMAGES, 2, 2, 0), Sum("z", ("y", IMAGES))], "adds shapes"),
        ([AveragePool("y", IMAGES, 8, 1, 0)], "window of 8 on a map of 7x7"),
        ([AveragePool("y", IMAGES, 3, 1, 2)], "padding to half a kernel"),
        ([ReLUCode(IMAGES, 0)], "multiplicity 0"),
        ([Convolution("y", IMAGES, "w", (4, 3, 5, 5))], "kernel of 5x5"),
    ],
)
def test_steps_that_do_not_fit_are_refused_before_anything_runs(backend, steps, message):
    with pytest.raises(ValueError, match=message):
        backend.kernel(Plan((3, 7, 7), tuple(steps)), random_images())


@pytest.mark.parametrize("images", [random_images(height=8), random_images().double(), random_images()[:0]])
def test_images_of_another_shape_or_type_are_refused(backend, images):
    with pytest.raises(ValueError, match=r"float32 images of shape \(3, 7, 7\)"):
        backend.kernel(Plan((3, 7, 7), (ReLUCode(IMAGES, 1),)), images)


@pytest.mark.parametrize(
    ("shape", "stride", "reason"),
    [
        ((4, 3, 5, 5), 1, "kernel of 5x5; 1x1 and 3x3"),
        ((4, 3, 3, 3), 3, "stride 3; 1 and 2"),
        ((6, 3, 3, 3), 1, "6 output channels; multiples of 4"),
        ((8, 3, 3, 3), 2, None),
    ],
)
def test_what_is_not_compiled_is_named(backend, shape, stride, reason):
    found = backend.supports(Plan((3, 7, 7), (Convolution("y", IMAGES, "w", shape, stride),)))
    assert found is None if reason is None else reason in found


def test_another_device_is_refused():
    with pytest.raises(ValueError, match="runs on cpu, not on meta"):
        NativeBackend(torch.device("meta"), 0)


ENGINE = Path(library.__file__).parent / "engine"
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]

SANITIZED_RUN = """
import sys
from pathlib import Path
import numpy as np
import torch
from harness.backends.native import NativeBackend
from spaces.nasbench201 import NASBench201, NASBench201Config
from spaces.plan import IMAGES, AveragePool, Convolution, Plan, ReLUCode, Sum

backend = NativeBackend(torch.device("cpu"), 0, Path(sys.argv[1]))
space, config = NASBench201(), NASBench201Config(channels=4, cells=1, image_size=20)
for cell in space.sample_distinct(6, np.random.default_rng(0)):
    backend.kernel(space.plan(cell, config, "all"), torch.randn(17, 3, 20, 20))
for height, width in ((1, 1), (5, 3), (8, 4), (9, 16)):
    steps = [Convolution(f"{k}{s}", IMAGES, "w", (8, 3, k, k), s) for k in (1, 3) for s in (1, 2)]
    steps += [AveragePool("pool", "31", 3, 2, 1), Sum("sum", ("32", "pool"))]
    steps += [ReLUCode("sum", 1), ReLUCode("31", 1)]
    plan = Plan((3, height, width), tuple(steps))
    backend.values(plan, torch.randn(3, 3, height, width), ["sum", "11", "12"])
print("clean")
"""


def sanitized_run(objects, folder):
    """What the run above says on stdout and stderr, with the engine linked from object files."""
    built = folder / "engine_sanitized.so"
    subprocess.run(["g++", "-shared", *SANITIZERS, *objects, "-o", built], check=True)
    runtime = subprocess.run(
        ["g++", "-print-file-name=libasan.so"], check=True, capture_output=True, text=True
    ).stdout.strip()
    environment = os.environ | {"LD_PRELOAD": runtime, "ASAN_OPTIONS": "detect_leaks=0"}
    run = subprocess.run(
        [sys.executable, "-c", SANITIZED_RUN, str(built)], env=environment, capture_output=True, text=True
    )
    return run.stdout.strip(), run.stderr


def compiled(source, folder):
    """Object file of a source file of the engine, with sanitizers."""
    flags = ["-std=c++17", "-O1", "-g", "-ffp-contract=off", "-Wno-psabi", "-fPIC", f"-I{ENGINE}"]
    if library.best_library().level >= 3:
        flags.append("-march=x86-64-v3")
    subprocess.run(["g++", *flags, *SANITIZERS, "-c", source, "-o", folder / f"{source.stem}.o"], check=True)
    return folder / f"{source.stem}.o"


@pytest.fixture(scope="module")
def objects(tmp_path_factory):
    """Object file of every source file of the engine, by name."""
    if shutil.which("g++") is None:
        pytest.skip("no g++ to build with sanitizers")
    folder = tmp_path_factory.mktemp("objects")
    return {source.stem: compiled(source, folder) for source in ENGINE.glob("*.cpp")}


def test_no_sanitizer_complains(objects, tmp_path):
    said, errors = sanitized_run(objects.values(), tmp_path)
    assert said == "clean", errors[-3000:]


def test_sanitizer_sees_a_pooled_row_too_many(objects, tmp_path):
    """The maps of a plan share one allocation, and yet none is read past its end."""
    right, wrong = "term.kernel, 0, term.height)", "term.kernel, 0, term.height + 1)"
    text = (ENGINE / "rows.cpp").read_text()
    assert right in text
    (tmp_path / "rows.cpp").write_text(text.replace(right, wrong))
    faulty = compiled(tmp_path / "rows.cpp", tmp_path)
    said, errors = sanitized_run((objects | {"rows": faulty}).values(), tmp_path)
    assert said != "clean"
    assert "use-after-poison" in errors
