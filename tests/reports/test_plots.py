"""Pictures, looked at through their pixels."""

import io
import warnings

import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

from reports.plots import scatter, short_number, throughput
from reports.statistics import agreement


def draw(scores, truth, scorer="naswot", truth_name="test_cifar10_200ep"):
    result = agreement(scorer, truth_name, scores, truth, resamples=20)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return scatter(scores, truth, scorer=scorer, truth_name=truth_name, agreement=result)


def pixels(png):
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def is_blue(colour):
    """The colour of a point, which text, grid and paper do not have."""
    return colour[2] - colour[0] > 60


def test_every_reported_position_is_on_a_drawn_point():
    plot = draw(np.array([1.0, 2.0, 3.0, 4.0, 5.0]), np.array([70.0, 90.0, 80.0, 85.0, 94.0]))
    image = pixels(plot.png)
    for x, y in zip(plot.x, plot.y, strict=True):
        assert is_blue(image[round(y), round(x)])


def test_positions_follow_score_to_the_right_and_truth_upwards():
    plot = draw(np.array([1.0, 2.0, 3.0]), np.array([70.0, 80.0, 90.0]))
    assert plot.x == sorted(plot.x)
    assert plot.y == sorted(plot.y, reverse=True)


def test_an_architecture_without_score_or_truth_has_no_point():
    plot = draw(np.array([1.0, np.nan, 3.0, 4.0, 5.0]), np.array([70.0, 80.0, np.nan, 90.0, 92.0]))
    assert np.isnan(plot.x).tolist() == np.isnan(plot.y).tolist() == [False, True, True, False, False]


def test_accuracies_at_chance_leave_the_bulk_nine_tenths_of_the_axis():
    random = np.random.default_rng(0)
    truth = np.concatenate([random.uniform(86, 94, 300), np.full(10, 10.0)])
    plot = draw(random.normal(size=310), truth)
    heights = np.array(plot.y)
    bulk = heights[:300].max() - heights[:300].min()
    assert bulk > 0.8 * (heights.max() - heights.min())
    assert heights[300:].min() > heights[:300].max()


def test_an_even_spread_has_a_linear_axis():
    plot = draw(np.linspace(1, 2, 101), np.linspace(10, 90, 101))
    steps = np.diff(plot.y)
    assert steps == pytest.approx(np.full(100, steps[0]))


def test_a_score_over_many_decades_has_a_logarithmic_axis():
    plot = draw(10.0 ** np.arange(32, 62), np.linspace(80, 94, 30))
    steps = np.diff(plot.x)
    assert steps == pytest.approx(np.full(29, steps[0]))


def test_far_values_on_both_sides_keep_the_order():
    scores = np.concatenate([[-1e8, -2000.0], np.linspace(-1, 1, 60), [3000.0, 28000.0]])
    plot = draw(scores, np.linspace(80, 94, 64))
    assert (np.diff(plot.x) > 0).all()


@pytest.mark.parametrize(
    ("scores", "truth"),
    [([], []), ([1.0], [90.0]), ([2.0, 2.0, 2.0], [10.0, 10.0, 10.0]), ([np.nan] * 4, [1.0, 2.0, 3.0, 4.0])],
    ids=["empty", "one", "constant", "no score"],
)
def test_a_picture_without_a_correlation_is_still_a_picture(scores, truth):
    plot = draw(np.array(scores), np.array(truth))
    assert pixels(plot.png).shape == (880, 1280, 3)
    assert len(plot.x) == len(plot.y) == len(scores)


def test_names_with_signs_of_mathematics_are_plain_text():
    draw(np.arange(4.0), np.arange(4.0), scorer="cost in $ and \\frac{", truth_name="$x^$")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        throughput(["$\\frac{"], [1.0], [1.0])


def test_a_long_name_stays_inside_the_picture():
    name = "a_scorer_with_a_very_long_name_" * 4
    image = pixels(draw(np.arange(5.0), np.arange(5.0), scorer=name, truth_name=name).png)
    assert (image[:, -10:] == 255).all()
    assert (image[:10] == 255).all()
    assert (image[-10:] == 255).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        throughput([name], [1.0], [1.0])


def test_the_whole_space_is_drawn_with_every_position():
    random = np.random.default_rng(1)
    truth = random.uniform(80, 94, 15625)
    plot = draw(truth + random.normal(size=15625), truth)
    assert np.isfinite(plot.x).all()
    assert len(np.unique(pixels(plot.png).reshape(-1, 3), axis=0)) > 100  # shaded by density


def test_throughput_shows_a_dot_for_each_time_and_speed():
    image = pixels(throughput(["naswot", "params", "unmeasured"], [2100.0, 40.0, np.nan], [54.0, 600.0, 0.0]))
    blue = (image[:, :, 2] - image[:, :, 0] > 100).sum(axis=0) > 0
    dots = np.count_nonzero(np.diff(blue.astype(int)) == 1)
    assert dots == 4


def test_pictures_leave_no_global_figure():
    draw(np.arange(4.0), np.arange(4.0))
    assert plt.get_fignums() == []


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.4231, "0.423"), (73.849, "73.8"), (2110.4, "2,110"), (3.14e6, "3.14M"), (-1e8, "-100M"), (2e12, "2e+12")],
)
def test_numbers_are_short(value, text):
    assert short_number(value) == text
