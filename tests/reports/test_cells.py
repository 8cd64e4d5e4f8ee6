"""Drawings of cells: everything that is there is drawn, and nothing lies over a label."""

from itertools import combinations

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from reports.cells import cell_graphs, draw_cell
from spaces.darts import DARTS
from spaces.darts.genotype import parse_genotype
from spaces.darts_rnn import DARTSRNN
from spaces.nasbench201 import NASBench201

DARTS_SPACE, NASBENCH201 = DARTS(), NASBench201()
TWINS = parse_genotype(
    '{"normal": [["none", 0], ["none", 1], ["max_pool_3x3", 2], ["max_pool_3x3", 2], ["skip_connect", 0], '
    '["skip_connect", 0], ["sep_conv_5x5", 4], ["dil_conv_3x3", 1]], '
    '"reduce": [["skip_connect", 0], ["none", 0], ["none", 1], ["none", 1], ["none", 0], ["none", 0], '
    '["none", 1], ["none", 1]]}'
)
SAMPLED = [DARTS_SPACE.sample(np.random.default_rng(seed)) for seed in range(3)]
CELLS = [
    NASBENCH201.parse(text)
    for text in (
        "|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_1x1~2|",
        "|none~0|+|none~0|none~1|+|none~0|none~1|none~2|",
        "|none~0|+|nor_conv_3x3~0|none~1|+|none~0|skip_connect~1|none~2|",
    )
]
DRAWN = [DARTS_SPACE.parse("DARTS_V1"), DARTS_SPACE.parse("DARTS_V2"), TWINS, *SAMPLED, *CELLS]
DRAWN += [DARTSRNN().parse("DARTS_V1"), DARTSRNN().sample(np.random.default_rng(0))]


@pytest.mark.parametrize("architecture", DRAWN, ids=lambda architecture: str(architecture)[:40])
def test_nothing_lies_over_a_label(architecture):
    figure = draw_cell(architecture)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    for axes, graph in zip(figure.axes, cell_graphs(architecture), strict=True):
        boxes = [text.get_window_extent(canvas.get_renderer()) for text in axes.texts]
        assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))
        labels = boxes[: sum(bool(operation) for *_, operation in graph.edges)]
        lines = [axes.transData.transform_path(patch.get_path()) for patch in axes.patches]
        crossing = [sum(line.intersects_bbox(box, filled=False) for line in lines) for box in labels]
        assert crossing == [1] * len(labels), "each label is crossed by its own edge alone"


def test_every_operation_but_none_is_named_once():
    figure = draw_cell(TWINS)
    normal, reduction = ([text.get_text() for text in axes.texts] for axes in figure.axes)
    assert normal.count("max_pool_3x3") == normal.count("skip_connect") == 2
    assert "none" not in normal + reduction
    assert reduction.count("skip_connect") == 1


def test_nodes_stand_right_of_what_they_read():
    for axes, graph in zip(draw_cell(SAMPLED[0]).axes, cell_graphs(SAMPLED[0]), strict=True):
        column = {text.get_text(): text.get_position()[0] for text in axes.texts}
        assert all(column[source] < column[target] for source, target, _ in graph.edges)
