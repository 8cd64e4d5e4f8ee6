"""Training recipes by name: everything that decides an accuracy beside network, data and seed."""

from __future__ import annotations

import json
import math
from dataclasses import MISSING, asdict, dataclass, fields, replace

from harness.training.schedules import check_schedule, epoch_rates
from spaces.errors import InputError


@dataclass(frozen=True)
class Recipe:
    """SGD with momentum; the learning rate goes from `learning_rate` to `final_learning_rate` by `schedule`.

    The schedule cosine-power also has a `power` (1: plain cosine) and `warmup` epochs in which the rate rises.

    Training images are shifted by up to `crop_padding` pixels, black coming in at the border, and mirrored
    with probability 1/2 if `flip` and the data set allow it; then a square of `cutout` pixels a side, which may
    stick out, is grey in each (DeVries and Taylor, 2017). The fraction `validation_fraction` of the training
    split is held out for validation; of the rest at most `train_images` are trained on (None: all).

    `clip` bounds the norm of the gradient (None: no bound). The loss of a network's auxiliary heads counts
    `auxiliary` times, `label_smoothing` is the share of every target spread over all classes, and `mixup` is
    the parameter of the Beta distribution by which pairs of images are blended (Zhang et al., 2018; 0: none).
    `drop_path` is the probability, reached linearly by the epoch, of dropping a path of a network that has
    an attribute `drop_path` for it.

    Raises:
        InputError: a value out of its range.
    """

    name: str
    epochs: int
    batch_size: int
    learning_rate: float
    momentum: float
    weight_decay: float
    nesterov: bool
    crop_padding: int
    flip: bool
    validation_fraction: float
    train_images: int | None
    final_learning_rate: float = 0.0
    schedule: str = "cosine"
    clip: float | None = None
    cutout: int = 0
    auxiliary: float = 0.0
    drop_path: float = 0.0
    label_smoothing: float = 0.0
    mixup: float = 0.0
    power: float = 1.0
    warmup: int = 0

    def __post_init__(self) -> None:
        _require(self.epochs >= 1, "epochs", self.epochs, "at least 1")
        _require(self.batch_size >= 2, "batch_size", self.batch_size, "at least 2")
        _require(0 < self.learning_rate < math.inf, "learning_rate", self.learning_rate, "above 0")
        _require(0 <= self.momentum < 1, "momentum", self.momentum, "at least 0 and below 1")
        _require(0 <= self.weight_decay < math.inf, "weight_decay", self.weight_decay, "at least 0")
        _require(self.momentum > 0 or not self.nesterov, "momentum", self.momentum, "above 0 with nesterov")
        _require(self.crop_padding >= 0, "crop_padding", self.crop_padding, "at least 0")
        _require(
            0 < self.validation_fraction < 1,
            "validation_fraction",
            self.validation_fraction,
            "above 0 and below 1",
        )
        if self.train_images is not None:
            _require(self.train_images >= 2, "train_images", self.train_images, "at least 2")
        _require(
            0 <= self.final_learning_rate <= self.learning_rate,
            "final_learning_rate",
            self.final_learning_rate,
            f"from 0 to learning_rate {self.learning_rate}",
        )
        check_schedule(self.schedule, power=self.power, warmup=self.warmup)
        if self.clip is not None:
            _require(0 < self.clip < math.inf, "clip", self.clip, "above 0")
        _require(self.cutout >= 0, "cutout", self.cutout, "at least 0")
        _require(0 <= self.auxiliary < math.inf, "auxiliary", self.auxiliary, "at least 0")
        _require(0 <= self.drop_path < 1, "drop_path", self.drop_path, "at least 0 and below 1")
        _require(0 <= self.label_smoothing < 1, "label_smoothing", self.label_smoothing, "at least 0 and below 1")
        _require(0 <= self.mixup < math.inf, "mixup", self.mixup, "at least 0")

    def rates(self, epoch: int, steps: int) -> list[float]:
        """Learning rate of each of the steps of an epoch; epochs count from 1."""
        return epoch_rates(
            self.schedule,
            epoch=epoch,
            epochs=self.epochs,
            steps=steps,
            largest=self.learning_rate,
            smallest=self.final_learning_rate,
            power=self.power,
            warmup=self.warmup,
        )

    def text(self) -> str:
        """One text per recipe: its JSON, keys sorted, without what a recipe need not say and does not."""
        return json.dumps(
            {name: value for name, value in asdict(self).items() if self._says(name)}, sort_keys=True
        )

    def _says(self, name: str) -> bool:
        (default,) = (field.default for field in fields(self) if field.name == name)
        return default is MISSING or getattr(self, name) != default


def _require(holds: bool, field: str, value: float, allowed: str) -> None:
    if not holds:
        raise InputError(f"{field} of a recipe must be {allowed}, not {value}")


NASBENCH201 = Recipe(
    name="nasbench201-200",
    epochs=200,
    batch_size=256,
    learning_rate=0.1,
    momentum=0.9,
    weight_decay=5e-4,
    nesterov=True,
    crop_padding=4,
    flip=True,
    validation_fraction=0.5,
    train_images=None,
)
"""Dong and Yang, ICLR 2020, table 1; half of the training images validate, as in their cifar10-valid."""

NASBENCH201_SHORT = replace(NASBENCH201, name="nasbench201-12", epochs=12)

SMALL = Recipe(
    name="small",
    epochs=6,
    batch_size=32,
    learning_rate=0.1,
    momentum=0.9,
    weight_decay=5e-4,
    nesterov=True,
    crop_padding=2,
    flip=True,
    validation_fraction=0.5,
    train_images=600,
)
"""Chosen by trials on the digits (32x32, nasbench201 with 4 channels and 1 cell a stage), a few seconds a cell.

Over 19 random cells validation accuracy ran from 68 to 96 %, and two seeds agreed with Pearson 0.72 and
Spearman 0.46: bad cells show, close ones do not. With 1,000 images of 16x16 pixels nearly all cells passed
90 % and two seeds disagreed on their order.
"""

TINY = replace(
    SMALL, name="tiny", epochs=1, crop_padding=0, flip=False, validation_fraction=0.25, train_images=None
)
"""For searches that train a thousand networks on 8x8 digits: 32 steps each, enough for batch norm's statistics.

Of hierarchical cells of 8 channels four random ones reached 44, 54, 30 and 68 % of the validation images; after
10 steps, before those statistics follow, all were at chance.
"""

DARTS_CIFAR = Recipe(
    name="darts-cifar",
    epochs=600,
    batch_size=96,
    learning_rate=0.025,
    schedule="cosine-epochs",
    momentum=0.9,
    weight_decay=3e-4,
    nesterov=False,
    clip=5.0,
    crop_padding=4,
    flip=True,
    cutout=16,
    auxiliary=0.4,
    drop_path=0.2,
    validation_fraction=0.1,
    train_images=None,
)
"""Liu et al., ICLR 2019, cnn/train.py, but for a tenth of the training images, which validates here."""

DARTS_IMAGENET = Recipe(
    name="darts-imagenet",
    epochs=250,
    batch_size=128,
    learning_rate=0.1,
    schedule="exponential",
    momentum=0.9,
    weight_decay=3e-5,
    nesterov=False,
    clip=5.0,
    crop_padding=28,
    flip=True,
    auxiliary=0.4,
    label_smoothing=0.1,
    validation_fraction=0.02,
    train_images=None,
)
"""Liu et al., ICLR 2019, cnn/train_imagenet.py, but for a fiftieth of the training images, which validates here.

Its random crops of 8 to 100 % of an image and its changes of colour are crops shifted by an eighth here. DARTS+
adds squeeze-and-excitation, mixup and more (--squeeze-excitation, --mixup); the settings are not in our sources.
"""

SHARPDARTS_CIFAR = replace(
    DARTS_CIFAR,
    name="sharpdarts-cifar",
    epochs=2000,
    schedule="cosine-power",
    power=2.0,
    warmup=5,
    final_learning_rate=1e-8,
)
"""Hundt et al., 2019, cnn/train.py by its defaults and README, without AutoAugment."""

DESCRIPTIONS = {
    NASBENCH201: "NAS-Bench-201's 200 epochs: SGD, Nesterov momentum, cosine, flip and crop, half validates",
    NASBENCH201_SHORT: "the same in 12 epochs, as the benchmark's short schedule",
    DARTS_CIFAR: "DARTS's 600 epochs: cutout, auxiliary head, drop path; meant for 36 channels and 20 cells",
    SHARPDARTS_CIFAR: "the same in sharpDARTS's 2,000 epochs by Cosine Power Annealing",
    DARTS_IMAGENET: "DARTS's 250 epochs on ImageNet: label smoothing; for --stem imagenet, 48 channels, 14 cells",
    SMALL: "6 epochs of at most 600 images: seconds a reduced network on one core",
    TINY: "1 epoch without augmentation, for searches that train each architecture on the digits",
}


def recipe_names() -> dict[str, str]:
    """Name of every recipe to a one-line description."""
    return {recipe.name: description for recipe, description in DESCRIPTIONS.items()}


def load_recipe(name: str, **overrides: float | str | None) -> Recipe:
    """The recipe of this name with some fields replaced; overrides that are None keep the recipe's value.

    Raises:
        InputError: unknown name, with the names that exist; or a value out of its range.
    """
    recipes = {recipe.name: recipe for recipe in DESCRIPTIONS}
    if name not in recipes:
        raise InputError(f"unknown recipe {name!r}; allowed: {', '.join(recipes)}")
    given = {field: value for field, value in overrides.items() if value is not None}
    return replace(recipes[name], **given)  # type: ignore[arg-type]
