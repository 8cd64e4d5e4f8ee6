"""Recipes for language models by name: everything that decides a perplexity beside network, text and seed."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

import numpy as np

from spaces.darts_rnn.dropout import DropoutRates
from spaces.errors import InputError

SHORTEST, LONGEST_EXTRA, HALVED_SHARE = 5, 20, 0.05
"""Parts of a text have at least 5 tokens and at most 20 above the recipe's; 5 % aim at half of that."""


@dataclass(frozen=True)
class TextRecipe:
    """How the weights of a language model are trained; the defaults are those of the authors' evaluation.

    A text is read by `batch_size` readers at once, in parts of about `length` tokens (normal noise of `jitter`
    around it), between which states are carried, but no gradients. SGD at `learning_rate`, times the part's
    share of `length`; gradients are clipped to norm `clip`. `slowness` weighs the mean square of the change of
    the states from one place to the next, `activation` that of the states that the decoder reads. Validation
    and test are read by `evaluation_batch_size` readers.

    Raises:
        InputError: a value out of its range.
    """

    name: str = "darts-ptb"
    epochs: int = 8000
    batch_size: int = 64
    evaluation_batch_size: int = 10
    length: int = 35
    jitter: float = 5.0
    learning_rate: float = 20.0
    weight_decay: float = 8e-7
    clip: float = 0.25
    slowness: float = 1e-3
    activation: float = 0.0
    dropout: DropoutRates = field(default_factory=lambda: DropoutRates(token=0.1))

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "evaluation_batch_size", "length"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} of a recipe must be at least 1, not {getattr(self, name)}")
        for name in ("learning_rate", "clip"):
            if not 0 < getattr(self, name) < math.inf:
                raise InputError(f"{name} of a recipe must be above 0, not {getattr(self, name)}")
        for name in ("jitter", "weight_decay", "slowness", "activation"):
            if not 0 <= getattr(self, name) < math.inf:
                raise InputError(f"{name} of a recipe must be at least 0, not {getattr(self, name)}")

    def text(self) -> str:
        """One text per recipe: its JSON, keys sorted."""
        return json.dumps(asdict(self), sort_keys=True)

    def parts(self, places: int, rng: np.random.Generator) -> list[range]:
        """The places that each part of an epoch reads, the last place being for its target only."""
        parts = []
        start = 0
        while start < places - 1:
            aim = self.length if rng.random() >= HALVED_SHARE else self.length / 2
            drawn = int(rng.normal(aim, self.jitter))
            size = min(max(min(SHORTEST, self.length), drawn), self.length + LONGEST_EXTRA)
            parts.append(range(start, min(start + size, places - 1)))
            start += size
        return parts


@dataclass(frozen=True)
class LanguageRecipe(TextRecipe):
    """A recipe whose weights are averaged from the epoch whose validation loss is above the best of all but the
    `plateau` epochs before it (the non-monotone criterion of Merity et al., 2018)."""

    plateau: int = 5


DARTS_PTB = LanguageRecipe()
"""Liu et al., ICLR 2019, appendix A.3.2 and rnn/train.py, for 850 units on Penn Treebank."""

DARTS_WIKITEXT2 = replace(
    DARTS_PTB, name="darts-wikitext2", weight_decay=5e-7, dropout=DropoutRates(0.1, hidden=0.15)
)
"""What they change for 700 units on WikiText-2."""

SMALL = replace(
    DARTS_PTB,
    name="small",
    epochs=4,
    batch_size=32,
    evaluation_batch_size=32,
    dropout=DropoutRates.everywhere(0.1),
)
"""For some ten units and minutes: the published dropout is for networks that can learn their text by heart."""

DESCRIPTIONS = {
    DARTS_PTB: "DARTS's 8000 epochs of averaged SGD on Penn Treebank, meant for 850 units",
    DARTS_WIKITEXT2: "the same on WikiText-2, meant for 700 units",
    SMALL: "4 epochs, 32 readers, little dropout: minutes a network of some ten units",
}


def load_text_recipe(name: str, **overrides: Any) -> LanguageRecipe:
    """The recipe of this name with some fields replaced; overrides that are None keep the recipe's value.

    Raises:
        InputError: unknown name, with the names that exist; a field it does not have; a value out of its range.
    """
    recipes = {recipe.name: recipe for recipe in DESCRIPTIONS}
    if name not in recipes:
        raise InputError(f"unknown recipe {name!r} for text; allowed: {', '.join(recipes)}")
    return replace(recipes[name], **text_settings(LanguageRecipe, overrides, f"recipe {name} for text"))


def text_settings(recipe: type[TextRecipe], given: dict[str, Any], owner: str) -> dict[str, Any]:
    """Fields of a recipe from settings by name, None left out; `dropout` is one rate for all but whole words.

    Raises:
        InputError: a setting that is no field; `owner` names what lacks it.
    """
    settings = {name: value for name, value in given.items() if value is not None}
    known = {each.name for each in fields(recipe)} - {"name"}
    for name in settings:
        if name not in known:
            raise InputError(f"{owner} has no setting --{name.replace('_', '-')}")
    if "dropout" in settings:
        settings["dropout"] = DropoutRates.everywhere(settings["dropout"])
    return settings
