"""Learning rates: Cosine Power Annealing as a torch scheduler, and the schedules of recipes."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness.training.recipes import load_recipe
from harness.training.schedules import SCHEDULES, CosinePowerAnnealing, annealed
from spaces.errors import InputError

powers = st.floats(1, 1e6)


def optimiser(*rates: float) -> torch.optim.SGD:
    """SGD with a group for each rate."""
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": rate} for rate in rates]
    return torch.optim.SGD(groups, lr=rates[0])


def rates_of(scheduler: torch.optim.lr_scheduler.LRScheduler, epochs: int) -> list[list[float]]:
    """Rate of every group in each epoch, and in the one after the last."""
    rates = [scheduler.get_last_lr()]
    for _ in range(epochs):
        scheduler.optimizer.step()
        scheduler.step()
        rates.append(scheduler.get_last_lr())
    return rates


def test_power_1_is_torchs_cosine() -> None:
    ours = rates_of(CosinePowerAnnealing(optimiser(0.1, 0.4), 50, 1, 1e-3), 50)
    theirs = rates_of(torch.optim.lr_scheduler.CosineAnnealingLR(optimiser(0.1, 0.4), 50, 1e-3), 50)
    difference = torch.tensor(ours, dtype=torch.float64) - torch.tensor(theirs, dtype=torch.float64)
    assert difference.abs().max() < 1e-12


@given(st.integers(1, 200), powers)
def test_the_curve_is_the_published_power_rescaled_to_its_ends(epochs: int, power: float) -> None:
    for done in range(epochs + 1):
        cosine = (1 + torch.tensor(torch.pi * done / epochs, dtype=torch.float64).cos()) / 2
        # The published form loses its digits near power 1, where it tends to the cosine.
        expected = cosine if power < 1.001 else (power ** (cosine + 1) - power) / (power**2 - power)
        assert annealed(done, epochs, power) == pytest.approx(float(expected), abs=1e-3 if power < 1.001 else 1e-9)


@given(st.integers(1, 100), powers, st.integers(0, 100))
def test_rates_rise_in_the_warmup_then_fall_to_the_smallest(epochs: int, power: float, warmup: int) -> None:
    warmup = min(warmup, epochs)
    shares = [annealed(done, epochs, power, warmup) for done in range(epochs + 1)]
    peak = max(warmup - 1, 0)
    assert shares[peak] == pytest.approx(1, rel=1e-12)
    assert shares[-1] == pytest.approx(0, abs=1e-12)
    assert all(earlier < later for earlier, later in pairwise(shares[: peak + 1]))
    assert all(earlier >= later for earlier, later in pairwise(shares[peak:]))


def test_a_larger_power_falls_faster() -> None:
    curves = [[annealed(done, 20, power) for done in range(1, 20)] for power in (1, 2, 10, 100)]
    for slower, faster in pairwise(curves):
        assert all(left > right for left, right in zip(slower, faster, strict=True))


def test_the_first_epochs_of_a_warmup_rise_by_equal_steps() -> None:
    rates = rates_of(CosinePowerAnnealing(optimiser(0.5), 10, 2, 0.0, warmup_epochs=5), 10)
    assert [rate for (rate,) in rates[:5]] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])


def test_steps_after_the_last_epoch_stay_at_the_minimum() -> None:
    assert rates_of(CosinePowerAnnealing(optimiser(0.5), 4, 10, 0.01), 8)[4:] == [[pytest.approx(0.01)]] * 5


def test_a_resumed_scheduler_goes_on_where_it_was() -> None:
    whole = rates_of(CosinePowerAnnealing(optimiser(0.5), 12, 10, 0.01, warmup_epochs=3), 12)
    first = CosinePowerAnnealing(optimiser(0.5), 12, 10, 0.01, warmup_epochs=3)
    rates_of(first, 5)
    resumed = CosinePowerAnnealing(optimiser(0.5), 1, 1, 0.0)
    resumed.load_state_dict(first.state_dict())
    assert rates_of(resumed, 7) == whole[5:]


def test_every_recipe_can_anneal_by_a_power_of_the_cosine() -> None:
    for name in ("nasbench201-200", "darts-cifar", "small"):
        recipe = replace(load_recipe(name, epochs=8), schedule="cosine-power", power=10.0, warmup=2)
        rates = [recipe.rates(epoch, 3) for epoch in range(1, 9)]
        scheduler = CosinePowerAnnealing(
            optimiser(recipe.learning_rate), 8, 10.0, recipe.final_learning_rate, warmup_epochs=2
        )
        assert [[rate] * 3 for (rate,) in rates_of(scheduler, 7)] == rates


def test_the_published_recipe_anneals_from_its_first_rate() -> None:
    recipe = load_recipe("sharpdarts-cifar")
    assert (recipe.power, recipe.warmup, recipe.epochs) == (2.0, 5, 2000)
    assert recipe.rates(5, 1) == [0.025]
    assert recipe.rates(1, 1) == [pytest.approx(0.025 / 5, rel=1e-5)]


@pytest.mark.parametrize("schedule", sorted(SCHEDULES))
def test_every_schedule_begins_at_the_recipes_rate(schedule: str) -> None:
    recipe = replace(load_recipe("small"), schedule=schedule)
    assert recipe.rates(1, 4)[0] == recipe.learning_rate


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"schedule": "linear"}, "schedule of a recipe must be one of cosine, .*cosine-power.*, not 'linear'"),
        ({"schedule": "cosine-power", "power": 0.5}, "power of a schedule must be at least 1, not 0.5"),
        ({"schedule": "cosine-power", "power": float("nan")}, "power of a schedule must be at least 1, not nan"),
        ({"schedule": "cosine-power", "warmup": -1}, "warmup of a schedule must be at least 0 epochs, not -1"),
        ({"power": 2.0}, "power and warmup of a recipe belong to the schedule cosine-power, not to cosine"),
    ],
)
def test_bad_settings_are_named(settings: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_recipe("small", **settings)


def test_a_warmup_longer_than_the_whole_is_refused() -> None:
    with pytest.raises(InputError, match="total_epochs must be at least 1 and the warmup of 5, not 3"):
        CosinePowerAnnealing(optimiser(0.1), 3, 2, 0.0, warmup_epochs=5)
