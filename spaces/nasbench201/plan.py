"""Plan of a NAS-Bench-201 cell in its network: the cell's graph repeated, between stem and last ReLU."""

from __future__ import annotations

from collections import Counter

from spaces.base import Counting
from spaces.nasbench201.cell import KERNELS, Cell, edge_name
from spaces.nasbench201.config import STAGES, NASBench201Config
from spaces.nasbench201.graph import INPUT, ZERO, ComputationGraph, Term, Value, computation_graph
from spaces.plan import IMAGES, AveragePool, BatchNorm, Convolution, Plan, ReLUCode, Step, Sum


def cell_plan(cell: Cell, config: NASBench201Config, counting: Counting) -> Plan:
    """Steps up to the last counted ReLU; `off_units` are the inputs of ReLUs that nothing reaches.

    With `counting="live"`, a cell without a path to its output has no live ReLU and so an empty plan. With
    "all", what follows its first cell reads zeros, since batch norm at initialisation keeps zero zero.
    """
    shape = (config.input_channels, config.image_size, config.image_size)
    graphs = {value: computation_graph(cell, counting, value) for value in (INPUT, ZERO)}
    if counting == "live" and not graphs[INPUT].output:
        return Plan(shape, ())
    writer = _PlanWriter(config)
    reached = True
    current = writer.convolution("stem", IMAGES, (config.channels, config.input_channels, 3, 3), rectify=False)
    for index in range(STAGES * config.cells):
        stage, position = divmod(index, config.cells)
        if stage and position == 0:
            current = writer.residual_block(stage - 1, current, reached)
        graph = graphs[INPUT if reached else ZERO]
        current = writer.cell(f"cells.{index}", graph, stage, current)
        reached = bool(graph.output)
    writer.last_relu(current, reached)
    return Plan(shape, tuple(writer.steps), writer.off_units)


class _PlanWriter:
    """Appends steps; a buffer is named after what it holds."""

    def __init__(self, config: NASBench201Config) -> None:
        self.steps: list[Step] = []
        self.off_units = 0
        self._widths = config.widths()
        self._areas = config.areas()

    def convolution(
        self,
        name: str,
        source: str,
        shape: tuple[int, int, int, int],
        stride: int = 1,
        *,
        rectify: bool = True,
    ) -> str:
        """Output buffer of a normalised convolution whose weight is `name`.weight."""
        self.steps.append(Convolution(name, source, f"{name}.weight", shape, stride, rectify))
        return name

    def cell(self, name: str, graph: ComputationGraph, stage: int, source: str) -> str:
        """Output buffer of one cell, all its counted ReLUs read on the way; unchanged where it is zero."""
        buffers: dict[Value, str] = {INPUT: source}
        draws = {draw.edge: draw for draw in graph.draws}
        width = self._widths[stage]

        def buffer(value: Value) -> str:
            if value not in buffers:
                terms = tuple(term_buffer(term) for term in value)
                if len(terms) == 1:
                    buffers[value] = terms[0]
                else:
                    buffers[value] = f"{name}.sum{len(buffers)}"
                    self.steps.append(Sum(buffers[value], terms))
            return buffers[value]

        def term_buffer(term: Term) -> str:
            if (term,) not in buffers:
                if term.kind == "pool":
                    source = buffer(term.pooled)
                    buffers[term,] = f"{name}.pool{len(buffers)}"
                    self.steps.append(AveragePool(buffers[term,], source, kernel=3, stride=1, padding=1))
                else:
                    operation = draws[term.edge].operation
                    weight = f"{name}.edges.{edge_name(term.edge)}-{operation}.convolution"
                    shape = (width, width, KERNELS[operation], KERNELS[operation])
                    buffers[term,] = self.convolution(weight, buffer(draws[term.edge].source), shape)
            return buffers[term,]

        for value, count in Counter([*(draw.source for draw in graph.draws), *graph.readings]).items():
            if value:
                self.steps.append(ReLUCode(buffer(value), count))
            else:
                self.off_units += count * width * self._areas[stage]
        return buffer(graph.output) if graph.output else source

    def residual_block(self, index: int, source: str, reached: bool) -> str:
        """Output buffer of the block after stage `index`; its two ReLUs are off where nothing is reached."""
        name, small, large = f"reductions.{index}", self._widths[index], self._widths[index + 1]
        if not reached:
            self.off_units += small * self._areas[index] + large * self._areas[index + 1]
            return source
        self.steps.append(ReLUCode(source, 1))
        first = self.convolution(f"{name}.first.convolution", source, (large, small, 3, 3), stride=2)
        self.steps.append(ReLUCode(first, 1))
        second = self.convolution(f"{name}.second.convolution", first, (large, large, 3, 3))
        self.steps.append(AveragePool(f"{name}.pool", source, kernel=2, stride=2, padding=0))
        self.steps.append(
            Convolution(
                f"{name}.shortcut",
                f"{name}.pool",
                f"{name}.shortcut.weight",
                (large, small, 1, 1),
                rectify=False,
                normalise=False,
            )
        )
        self.steps.append(Sum(name, (f"{name}.shortcut", second)))
        return name

    def last_relu(self, source: str, reached: bool) -> None:
        """The ReLU before global pooling."""
        if not reached:
            self.off_units += self._widths[-1] * self._areas[-1]
            return
        self.steps.append(BatchNorm("norm", source))
        self.steps.append(ReLUCode("norm", 1))
