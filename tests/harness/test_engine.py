import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.datasets import draw_batch, load_dataset
from harness.engine import ScoringJob, check_memory, families, score_architectures, score_together, some_plans
from harness.progress import NullProgress
from harness.records import ScoreRecord
from harness.store import Store
from spaces.base import Architecture
from spaces.errors import InputError
from spaces.nasbench201 import NASBench201, NASBench201Config
from spaces.plan import peak_floats
from spaces.registry import load_space

SPACE = NASBench201()
DEAD = SPACE.parse("|none~0|+|none~0|none~1|+|none~0|none~1|none~2|")
SKIPS_AND_A_CONVOLUTION = SPACE.parse("|skip_connect~0|+|none~0|none~1|+|nor_conv_3x3~0|none~1|none~2|")
THE_SAME_CONVOLUTION = SPACE.parse("|none~0|+|none~0|none~1|+|nor_conv_3x3~0|none~1|none~2|")
CELLS = [cell for index, cell in enumerate(SPACE) if index % 1500 == 7]


class Recorder:
    """Counts what is reported, and stops like Ctrl-C when `stop_at` units are done."""

    def __init__(self, stop_at: float = math.inf) -> None:
        self.done = 0
        self.stop_at = stop_at

    def advance(self, count: int = 1) -> None:
        self.done += count
        if self.done >= self.stop_at:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def job() -> ScoringJob:
    dataset = load_dataset("digits", image_size=8)
    config = NASBench201Config(input_channels=1, image_size=8, classes=10, channels=4, cells=1)
    return ScoringJob("nasbench201", config, "naswot", 0, draw_batch(dataset, 16, 0), "cpu")


def scored(
    job: ScoringJob, architectures: Sequence[Architecture], path: Path, processes: int = 1, chunk: int = 8
) -> dict[str, float | None]:
    """Value by architecture as asked, from a store at `path`."""
    with Store(path) as store:
        score_architectures(job, architectures, store, NullProgress(), processes=processes, chunk=chunk)
        found = store.asked_scores(store.score_context(job.context()))
    return {architecture: record.value for architecture, record in found}


@pytest.fixture(scope="module")
def expected(job: ScoringJob, tmp_path_factory: pytest.TempPathFactory) -> dict[str, float | None]:
    """Scores of `CELLS`, one process, all in one go."""
    found = scored(job, CELLS, tmp_path_factory.mktemp("expected") / "s.sqlite", chunk=len(CELLS))
    assert sum(value is not None for value in found.values()) >= 8
    return found


# -- a score is a pure function


@pytest.mark.parametrize("chunk", [1, 5])
def test_the_chunk_changes_no_bit(
    job: ScoringJob, expected: dict[str, float | None], tmp_path: Path, chunk: int
) -> None:
    assert scored(job, CELLS, tmp_path / "s.sqlite", chunk=chunk) == expected


def test_the_order_changes_no_bit(job: ScoringJob, expected: dict[str, float | None], tmp_path: Path) -> None:
    assert scored(job, CELLS[::-1], tmp_path / "s.sqlite") == expected


def test_the_number_of_processes_changes_no_bit(
    job: ScoringJob, expected: dict[str, float | None], tmp_path: Path
) -> None:
    assert scored(job, CELLS, tmp_path / "s.sqlite", processes=2, chunk=1) == expected


def test_the_company_changes_no_bit(job: ScoringJob, expected: dict[str, float | None], tmp_path: Path) -> None:
    for number, cell in enumerate(CELLS[:3]):
        assert scored(job, [cell], tmp_path / f"{number}.sqlite") == {str(cell): expected[str(cell)]}


def test_an_interrupt_keeps_what_is_done_and_resuming_changes_no_bit(
    job: ScoringJob, expected: dict[str, float | None], tmp_path: Path
) -> None:
    with Store(tmp_path / "s.sqlite") as store:
        stopped = score_architectures(job, CELLS, store, Recorder(stop_at=4), processes=1, chunk=2)
        assert stopped.interrupted
        assert stopped.computed == 4
        assert stopped.scored + sum(stopped.unscored.values()) == 4
        assert len(store.scores(store.score_context(job.context()))) == 4
        resumed = score_architectures(job, CELLS, store, NullProgress(), processes=1)
        assert not resumed.interrupted
        assert (resumed.computed, resumed.cached) == (len(CELLS) - 4, 4)
    assert scored(job, CELLS, tmp_path / "s.sqlite") == expected


def test_another_seed_or_batch_or_width_gives_other_scores(
    job: ScoringJob, expected: dict[str, float | None], tmp_path: Path
) -> None:
    others = [
        replace(job, seed=1),
        replace(job, batch=draw_batch(load_dataset("digits", image_size=8), 16, 1)),
        replace(job, config=replace(job.config, channels=8)),
    ]
    for other in others:
        values = scored(other, CELLS, tmp_path / "s.sqlite")
        assert all(value != expected[text] for text, value in values.items() if value is not None)
    with Store(tmp_path / "s.sqlite", create=False) as store:
        assert len(store.score_contexts()) == 3


# -- nothing is computed twice


def test_a_key_is_never_computed_twice(job: ScoringJob, tmp_path: Path) -> None:
    with Store(tmp_path / "s.sqlite") as store:
        first = score_architectures(job, CELLS[:4], store, NullProgress(), processes=1)
        again = score_architectures(job, CELLS[:4], store, NullProgress(), processes=1)
        more = score_architectures(job, CELLS[2:7], store, NullProgress(), processes=1)
    assert (first.computed, first.cached) == (4, 0)
    assert (again.computed, again.cached) == (0, 4)
    assert (more.computed, more.cached) == (3, 2)


def test_cells_that_compute_the_same_are_computed_once(job: ScoringJob, tmp_path: Path) -> None:
    both = [SKIPS_AND_A_CONVOLUTION, THE_SAME_CONVOLUTION, THE_SAME_CONVOLUTION]
    with Store(tmp_path / "s.sqlite") as store:
        summary = score_architectures(job, both, store, NullProgress(), processes=1)
        asked = store.asked_scores(store.score_context(job.context()))
    assert (summary.scored, summary.computed, summary.equal) == (3, 1, 2)
    assert [architecture for architecture, _ in asked] == [
        str(SKIPS_AND_A_CONVOLUTION),
        str(THE_SAME_CONVOLUTION),
    ]
    assert len({record.value for _, record in asked}) == 1


def test_without_representatives_each_is_computed_as_written(job: ScoringJob, tmp_path: Path) -> None:
    both = [SKIPS_AND_A_CONVOLUTION, THE_SAME_CONVOLUTION]
    with Store(tmp_path / "s.sqlite") as store:
        summary = score_architectures(replace(job, canonical=False), both, store, NullProgress(), processes=1)
        asked = store.asked_scores(store.score_context(job.context()))
    assert (summary.computed, summary.equal) == (2, 0)
    assert [record.canonical for _, record in asked] == [str(cell) for cell in both]


def test_the_summary_accounts_for_everything_asked_for(job: ScoringJob, tmp_path: Path) -> None:
    asked = [*CELLS[:5], DEAD, CELLS[0], DEAD]
    with Store(tmp_path / "s.sqlite") as store:
        score_architectures(job, CELLS[:2], store, NullProgress(), processes=1)
        progress = Recorder()
        summary = score_architectures(job, asked, store, progress, processes=1)
    assert summary.computed + summary.cached + summary.equal == len(asked)
    assert summary.scored + sum(summary.unscored.values()) == len(asked)
    assert summary.unscored["no counted ReLU"] == 2
    assert progress.done == len(asked)
    assert summary.per_minute == pytest.approx(60 * summary.computed / summary.seconds)


# -- several scorers by one pass


def scored_together(
    jobs: Sequence[ScoringJob], path: Path, processes: int = 1, chunk: int = 8
) -> list[dict[str, float | None]]:
    """Value by architecture of each job."""
    with Store(path) as store:
        score_together(jobs, CELLS, store, NullProgress(), processes=processes, chunk=chunk)
        found = [store.asked_scores(store.score_context(job.context())) for job in jobs]
    return [{architecture: record.value for architecture, record in each} for each in found]


@pytest.fixture(scope="module")
def family(job: ScoringJob) -> list[ScoringJob]:
    return [replace(job, scorer=name) for name in ("snip", "grad_norm", "fisher")]


def test_jobs_are_grouped_by_the_pass_that_serves_them(job: ScoringJob) -> None:
    names = ("snip", "naswot", "jacov", "fisher", "naswot-published", "epe_nas")
    groups = families([replace(job, scorer=name) for name in names])
    found = [[member.scorer for member in group] for group in groups]
    assert found == [["snip", "fisher"], ["naswot"], ["jacov", "epe_nas"], ["naswot-published"]]


def test_only_jobs_on_the_same_batch_share_a_pass(job: ScoringJob) -> None:
    other = draw_batch(load_dataset("digits", image_size=8), 16, 1)
    assert len(families([replace(job, scorer="snip"), replace(job, scorer="fisher", batch=other)])) == 2


def test_one_pass_gives_every_scorer_the_bits_that_it_has_alone(family: list[ScoringJob], tmp_path: Path) -> None:
    alone = [scored(member, CELLS, tmp_path / "alone.sqlite") for member in family]
    assert all(value is not None for values in alone for value in values.values())
    assert scored_together(family, tmp_path / "together.sqlite") == alone
    assert scored_together(family[::-1], tmp_path / "workers.sqlite", processes=2, chunk=1) == alone[::-1]


def test_what_one_member_has_is_not_computed_again_for_the_others(
    family: list[ScoringJob], tmp_path: Path
) -> None:
    with Store(tmp_path / "s.sqlite") as store:
        first = score_architectures(family[0], CELLS[:3], store, NullProgress(), processes=1)
        summaries = score_together(family, CELLS, store, NullProgress(), processes=1)
        again = score_together(family, CELLS, store, NullProgress(), processes=1)
    assert [summary.cached for summary in summaries] == [first.computed, 0, 0]
    assert [summary.computed for summary in again] == [0, 0, 0]


def test_an_interrupt_of_a_family_keeps_what_is_done_of_each(family: list[ScoringJob], tmp_path: Path) -> None:
    with Store(tmp_path / "s.sqlite") as store:
        stopped = score_together(family, CELLS, store, Recorder(stop_at=4), processes=1, chunk=2)
        assert all(summary.interrupted and summary.computed == 4 for summary in stopped)
    resumed = scored_together(family, tmp_path / "s.sqlite")
    assert resumed == scored_together(family, tmp_path / "at once.sqlite")


# -- twins: the same function of the plan


def test_a_twin_copies_what_has_one_plan_and_computes_the_rest(job: ScoringJob, tmp_path: Path) -> None:
    twin = replace(job, scorer="naswot-published")
    alone = scored(twin, CELLS, tmp_path / "alone.sqlite")
    with Store(tmp_path / "s.sqlite") as store:
        first = score_architectures(job, CELLS, store, NullProgress(), processes=1)
        second = score_architectures(twin, CELLS, store, NullProgress(), processes=1)
        third = score_architectures(twin, CELLS, store, NullProgress(), processes=1)
        found = {
            architecture: record.value
            for architecture, record in store.asked_scores(store.score_context(twin.context()))
        }
    assert found == alone
    assert first.copied == 0 < second.copied < len(CELLS)
    plans = {
        text: [SPACE.plan(SPACE.parse(text), job.config, counting) for counting in ("live", "all")]
        for text in {str(SPACE.canonical(cell, "all")) for cell in CELLS}
    }
    assert second.computed == sum(live != every for live, every in plans.values()) > 0
    assert second.computed + second.copied == len(plans)
    assert (third.computed, third.copied, third.cached) == (0, 0, len(plans))


def test_a_twin_copies_the_record_as_it_is(job: ScoringJob, tmp_path: Path) -> None:
    twin = replace(job, scorer="naswot-published")
    with Store(tmp_path / "s.sqlite") as store:
        number = store.score_context(job.context())
        store.add_scores(number, [ScoreRecord(str(THE_SAME_CONVOLUTION), 12.5, None, 3.25)])
        store.rows("UPDATE scores SET versions = 'of long ago'")
        summary = score_architectures(twin, [THE_SAME_CONVOLUTION], store, NullProgress(), processes=1)
        rows = store.rows("SELECT value, seconds, versions FROM scores")
    assert (summary.computed, summary.copied) == (0, 1)
    assert rows == [(12.5, 3.25, "of long ago")] * 2


@pytest.mark.parametrize("other", [{"seed": 1}, {"scorer": "snip"}])
def test_scores_of_another_seed_or_scorer_are_not_copied(
    job: ScoringJob, tmp_path: Path, other: dict[str, Any]
) -> None:
    with Store(tmp_path / "s.sqlite") as store:
        score_architectures(replace(job, **other), CELLS[:2], store, NullProgress(), processes=1)
        twin = replace(job, scorer="naswot-published")
        assert score_architectures(twin, CELLS[:2], store, NullProgress(), processes=1).copied == 0


def test_networks_without_a_plan_have_one_score_for_twins(tmp_path: Path) -> None:
    space = load_space("darts")
    config = space.configure(input_channels=1, image_size=8, classes=10, channels=4, cells=2)
    batch = draw_batch(load_dataset("digits", image_size=8), 4, 0)
    genotypes = space.sample_distinct(2, np.random.default_rng(0))
    first = ScoringJob("darts", config, "naswot", 0, batch, "cpu")
    twin = replace(first, scorer="naswot-published")
    alone = scored(twin, genotypes, tmp_path / "alone.sqlite")
    with Store(tmp_path / "s.sqlite") as store:
        score_architectures(first, genotypes, store, NullProgress(), processes=1)
        assert score_architectures(twin, genotypes, store, NullProgress(), processes=1).copied == 2
    assert scored(twin, genotypes, tmp_path / "s.sqlite") == alone


def test_labels_are_part_of_the_key_of_scores_that_read_them(job: ScoringJob) -> None:
    relabelled = replace(job, batch=replace(job.batch, labels=job.batch.labels.roll(1)))
    assert replace(job, scorer="snip").context() != replace(relabelled, scorer="snip").context()
    assert replace(job, scorer="synflow").context() == replace(relabelled, scorer="synflow").context()


def test_a_scorer_of_the_network_as_written_gives_equal_cells_their_own_scores(
    job: ScoringJob, tmp_path: Path
) -> None:
    dead_branch = SPACE.parse("|nor_conv_1x1~0|+|none~0|none~1|+|nor_conv_3x3~0|none~1|none~2|")
    both = [THE_SAME_CONVOLUTION, dead_branch]
    assert len(set(scored(job, both, tmp_path / "s.sqlite").values())) == 1
    params = scored(replace(job, scorer="params"), both, tmp_path / "s.sqlite")
    assert params == {str(cell): float(SPACE.complexity(cell, job.config).params) for cell in both}
    assert len(set(params.values())) == 2


def test_what_does_not_read_plans_is_not_weighed_by_them(job: ScoringJob) -> None:
    texts = [str(cell) for cell in CELLS]
    assert some_plans(SPACE, job.config, "snip", texts) == [None]
    assert None not in some_plans(SPACE, job.config, "naswot", texts)


def test_a_backward_pass_is_known_to_need_more_memory_than_a_forward_pass(
    job: ScoringJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans = [SPACE.plan(cell, job.config, "live") for cell in CELLS]
    forward = 4 * 16 * max(map(peak_floats, plans))
    monkeypatch.setattr("harness.engine.available_memory", lambda: forward)
    check_memory(job, CELLS)
    with pytest.raises(InputError, match="--batch-size 16 needs about"):
        check_memory(replace(job, scorer="snip"), CELLS)


# -- reasons and refusals

SCORER_MODULE = """
from harness.scorers.base import Score, Scorer

class Broken(Scorer):
    name = "broken"
    description = "never a number"
    counting = "live"

    def score(self, candidate, batch, backend):
        return Score(float("nan"))
"""


def install_scorer(folder: Path, name: str, module: str) -> None:
    """What pip leaves behind of a package with one scorer."""
    (folder / f"{name}_scorer.py").write_text(module)
    metadata = folder / f"{name}_scorer-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}-scorer\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[tfnas.scorers]\n{name} = {name}_scorer:{name.capitalize()}\n")


def test_a_plug_ins_score_that_is_no_number_is_a_reason_and_is_kept(
    job: ScoringJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_scorer(tmp_path, "broken", SCORER_MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    broken = replace(job, scorer="broken")
    with Store(tmp_path / "s.sqlite") as store:
        summary = score_architectures(broken, CELLS[:2], store, NullProgress(), processes=1)
        again = score_architectures(broken, CELLS[:2], store, NullProgress(), processes=1)
    assert summary.unscored == {"score is nan": 2}
    assert (again.computed, again.cached) == (0, 2)


def test_a_network_that_raises_has_a_reason_and_the_others_their_scores(
    job: ScoringJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "engine_networks.py").write_text(
        "from torch import nn\n"
        "class Good(nn.Sequential):\n"
        "    def __init__(self):\n"
        "        super().__init__(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))\n"
        "class Unbuildable(Good):\n"
        "    def __init__(self):\n"
        "        raise LookupError('no such layer\\nor so')\n"
        "class Unrunnable(Good):\n"
        "    def forward(self, images):\n"
        "        return self.missing(images)\n"
        "class TooSmall(nn.Sequential):\n"
        "    def __init__(self):\n"
        "        super().__init__(nn.Conv2d(1, 4, 11), nn.ReLU())\n"
        "def networks():\n"
        "    return {kind.__name__: kind for kind in (Unbuildable, Unrunnable, TooSmall, Good)}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    name = "python:engine_networks:networks"
    own = replace(job, space=name, config=load_space(name).configure(input_channels=1, image_size=8))
    with Store(tmp_path / "s.sqlite") as store:
        score_architectures(own, list(load_space(name)), store, NullProgress(), processes=1)
        records = dict(store.asked_scores(store.score_context(own.context())))
    assert records["Good"].value is not None
    assert records["Unbuildable"].reason == "network Unbuildable failed: LookupError: no such layer"
    assert "no attribute 'missing'" in str(records["Unrunnable"].reason)
    assert "failed on images of shape (16, 1, 8, 8)" in str(records["TooSmall"].reason)


def test_more_memory_than_there_is_is_refused_with_both_amounts(job: ScoringJob, tmp_path: Path) -> None:
    huge = replace(job, config=replace(job.config, channels=10**9))
    with pytest.raises(InputError, match=r"--batch-size 16 needs about .* GiB .* GiB are free"):
        check_memory(huge, CELLS[:1])
    with Store(tmp_path / "s.sqlite") as store, pytest.raises(InputError, match="--batch-size 16 needs"):
        score_architectures(huge, CELLS[:1], store, NullProgress())
