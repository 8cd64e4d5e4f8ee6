"""Studies of sharpDARTS: what they compare and how they say it, on results that are already there."""

import math

import numpy as np
import pytest
from test_cli import tfnas

from reports.studies.base import load_study
from reports.studies.seeds import mean_over_seeds
from reports.studies.sharp_ablation import Change, shared_genotypes
from reports.studies.sharp_ablation import _sentence as sentence
from reports.studies.words import hundredths, points
from spaces.darts import DARTS
from spaces.sharpdarts import SharpDARTS


def test_the_interval_over_seeds_is_students() -> None:
    interval = mean_over_seeds(np.array([1.0, 2.0, 3.0]))
    half = 4.302653 / math.sqrt(3)
    assert (interval.low, interval.value, interval.high) == pytest.approx((2 - half, 2, 2 + half))
    assert hundredths(interval) == "2.00 [-0.48, 4.48]"
    assert points(interval) == "+2.00 [-0.48, +4.48]"


def test_one_seed_has_no_interval() -> None:
    interval = mean_over_seeds(np.array([1.5]))
    assert math.isnan(interval.low)
    assert (hundredths(interval), points(interval)) == ("1.50", "+1.50")


def test_genotypes_of_the_ablation_are_in_both_spaces() -> None:
    genotypes = shared_genotypes(SharpDARTS(), 20, 0)
    for genotype in genotypes:
        assert DARTS().parse(str(genotype)) == SharpDARTS().parse(str(genotype)) == genotype
    operations = {edge.operation for genotype in genotypes for edge in genotype.normal}
    assert operations == {"max_pool_3x3", "skip_connect", "sep_conv_3x3", "dil_conv_3x3"}


@pytest.mark.parametrize(
    ("gain", "word"), [(1.0, "holds here"), (-1.0, "does not hold here"), (0.0, "is not decided")]
)
def test_a_claim_is_judged_by_the_interval_of_the_paired_gain(gain: float, word: str) -> None:
    before = np.array([40.0, 50.0, 60.0])
    change = Change("a to b", before, before + gain + np.array([-0.01, 0.0, 0.01]), "b is better")
    assert f"claim that b is better {word}" in sentence(change)


@pytest.mark.parametrize("name", ["hypercuboid", "sharp-ablation"])
def test_another_space_is_refused_with_the_one_that_is_needed(name: str, tmp_path) -> None:
    assert load_study(name).name == name
    outcome = tfnas("study", name, "--space", "nasbench201", "--store", tmp_path / "s.sqlite", "--out", tmp_path)
    assert outcome.code == 2
    assert outcome.err.endswith("not nasbench201\n")
