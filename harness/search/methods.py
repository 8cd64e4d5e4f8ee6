"""The differentiable searches by name: everything that decides one beside space, data and seed."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from harness.search.stopping import SkipCount, StableRanking, StopRule
from harness.training.recipes import Recipe
from spaces.errors import InputError
from spaces.supernet import Relaxation

PLAIN = Relaxation()

SKIP_DROPOUT_DECAY = 0.2
"""By which the dropout after skip-connections falls exponentially in an epoch (P-DARTS, train_search.py)."""


@dataclass(frozen=True)
class SearchRecipe:
    """How the weights are trained (`weights`; the images it holds out move the alphas), and how the alphas are.

    `order` 1 takes the gradient at the weights as they are, 2 after one virtual step. Alphas move by Adam, and
    rest in the first `warmup_epochs`. The dropout of `relaxation` after skip-connections falls linearly while they
    rest, then exponentially. `most_skips` bounds the skip-connections of
    what is derived (None: no bound). The search stops when the derived normal cell has `skip_limit` of them
    (None: never) or the ranking of the learnable operations stays for `stable_epochs` (None: never).

    Raises:
        InputError: a value out of its range.
    """

    name: str
    weights: Recipe
    relaxation: Relaxation = PLAIN
    order: int = 1
    alpha_learning_rate: float = 3e-4
    alpha_betas: tuple[float, float] = (0.5, 0.999)
    alpha_weight_decay: float = 1e-3
    warmup_epochs: int = 0
    most_skips: int | None = None
    skip_limit: int | None = None
    stable_epochs: int | None = None

    def __post_init__(self) -> None:
        if self.order not in (1, 2):
            raise InputError(f"order of a search must be 1 or 2, not {self.order}")
        if not 0 < self.alpha_learning_rate < math.inf:
            raise InputError(f"alpha_learning_rate of a search must be above 0, not {self.alpha_learning_rate}")
        for name in ("warmup_epochs", "most_skips"):
            value = getattr(self, name)
            if value is not None and value < 0:
                raise InputError(f"{name} of a search must be at least 0, not {value}")
        for name in ("skip_limit", "stable_epochs"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name} of a search must be at least 1, not {value}")

    def rules(self) -> tuple[StopRule, ...]:
        """The rules that stop this search, the first to be asked first."""
        rules: list[StopRule] = []
        if self.skip_limit is not None:
            rules.append(SkipCount(self.skip_limit))
        if self.stable_epochs is not None:
            rules.append(StableRanking(self.stable_epochs))
        return tuple(rules)

    def skip_dropout(self, epoch: int) -> float:
        """Probability of dropout after skip-connections in an epoch; epochs count from 1."""
        first, moving = self.relaxation.skip_dropout, epoch - 1 - self.warmup_epochs
        if moving < 0:
            return first * (self.weights.epochs - epoch) / self.weights.epochs
        return first * math.exp(-SKIP_DROPOUT_DECAY * moving)

    def text(self) -> str:
        """One text per recipe: its JSON, keys sorted."""
        return json.dumps({**asdict(self), "weights": json.loads(self.weights.text())}, sort_keys=True)


DARTS = SearchRecipe(
    name="darts",
    weights=Recipe(
        name="darts-weights",
        epochs=50,
        batch_size=64,
        learning_rate=0.025,
        final_learning_rate=0.001,
        schedule="cosine-epochs",
        momentum=0.9,
        weight_decay=3e-4,
        nesterov=False,
        clip=5.0,
        crop_padding=4,
        flip=True,
        validation_fraction=0.5,
        train_images=None,
    ),
)
"""Liu et al., ICLR 2019, cnn/train_search.py. The paper anneals to 0 and starts the alphas at 0."""

DARTS_NASBENCH201 = replace(
    DARTS,
    name="darts-nasbench201",
    weights=replace(DARTS.weights, weight_decay=5e-4, nesterov=True, schedule="cosine"),
)
"""As the authors of NAS-Bench-201 ran DARTS on it (AutoDL-Projects, configs/nas-benchmark/algos/DARTS.config)."""

DARTS_PLUS = replace(DARTS, name="darts+", skip_limit=2)
"""Liang et al., 2019: DARTS and criterion 1."""

DARTS_PLUS_STABLE = replace(DARTS, name="darts+stable", stable_epochs=10)
"""Liang et al., 2019: DARTS and criterion *."""

PDARTS = replace(
    DARTS,
    name="pdarts",
    weights=replace(DARTS.weights, epochs=25, batch_size=96, final_learning_rate=0.0),
    relaxation=Relaxation(skip_dropout=0.4),
    alpha_learning_rate=6e-4,
    warmup_epochs=10,
    most_skips=2,
)
"""One stage like P-DARTS's second (Chen et al., ICCV 2019, train_search.py); nothing grows between stages."""

PCDARTS = replace(
    DARTS,
    name="pcdarts",
    weights=replace(DARTS.weights, batch_size=256, learning_rate=0.1),
    relaxation=Relaxation(partial=4, edge_normalisation=True),
    alpha_learning_rate=6e-4,
    warmup_epochs=15,
)
"""Xu et al., ICLR 2020, train_search.py."""

WARMUP = replace(DARTS, name="warmup", weights=replace(DARTS.weights, epochs=40), warmup_epochs=20)
"""DARTS whose alphas rest for 20 of 40 epochs, like Auto-DeepLab's (Liu et al., CVPR 2019)."""

UNSHARED = replace(DARTS, name="unshared", relaxation=Relaxation(shared=False))
"""DARTS with alphas of its own in every cell: DARTS+'s experiment on cooperation and competition."""

SHARPDARTS = replace(
    DARTS,
    name="sharpdarts",
    weights=replace(
        DARTS.weights,
        epochs=120,
        batch_size=48,
        schedule="cosine-power",
        power=2.0,
        warmup=5,
        final_learning_rate=1e-4,
        cutout=16,
    ),
)
"""Hundt et al., 2019, cnn/train_search.py by its defaults and README, without AutoAugment."""

DHGS = replace(SHARPDARTS, name="dhgs", relaxation=Relaxation(weighting="max-w"))
"""Differentiable Hyperparameter Grid Search of the same paper, with its Max-W: made for the space hypercuboid."""

RECIPES = {
    recipe.name: recipe
    for recipe in (
        DARTS,
        DARTS_NASBENCH201,
        DARTS_PLUS,
        DARTS_PLUS_STABLE,
        PDARTS,
        PCDARTS,
        WARMUP,
        UNSHARED,
        SHARPDARTS,
        DHGS,
    )
}


def configure(recipe: SearchRecipe, settings: dict[str, Any]) -> SearchRecipe:
    """The recipe with some settings replaced, each where it belongs: search, weights or relaxation.

    Raises:
        InputError: a setting that no differentiable search has, or a value out of its range.
    """
    parts: dict[str, Any] = {"weights": recipe.weights, "relaxation": recipe.relaxation}
    own: dict[str, Any] = {}
    for name, value in settings.items():
        owner = next((part for part in parts if _has(parts[part], name)), None)
        if _has(recipe, name):
            own[name] = value
        elif owner:
            parts[owner] = replace(parts[owner], **{name: value})
        else:
            raise InputError(f"method {recipe.name} has no setting --{name.replace('_', '-')}")
    return replace(recipe, **parts, **own)


def _has(part: Any, name: str) -> bool:
    return name != "name" and any(field.name == name for field in fields(part))
