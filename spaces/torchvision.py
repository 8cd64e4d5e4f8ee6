"""torchvision's classification models, by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from spaces.base import NetworkConfig
from spaces.errors import InputError
from spaces.modules import NamedNetworks

if TYPE_CHECKING:
    from torch import nn

OWN_INITIALISATION_IS_SLOW = ("googlenet", "inception_v3")
"""Models that draw truncated normals through SciPy by default, for minutes; torch's own default serves."""


@dataclass(frozen=True)
class ColourConfig(NetworkConfig):
    """Networks with a stem for three channels."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.input_channels != 3:
            raise InputError(f"these networks take images of 3 channels; the data set has {self.input_channels}")


class Torchvision(NamedNetworks[ColourConfig]):
    """Classification models only: those whose builder stands in `torchvision.models` itself."""

    name = "torchvision"
    description = "torchvision's classification models, by name (resnet18, mobilenet_v2, ...)"
    config_type = ColourConfig

    def names(self) -> list[str]:
        """Names as `torchvision.models.list_models` gives them."""
        from torchvision import models

        return list(models.list_models(module=models))

    def build(self, name: str, config: ColourConfig) -> nn.Module:
        """Untrained model with as many outputs as the data set has classes."""
        from torchvision import models

        options = {"init_weights": False} if name in OWN_INITIALISATION_IS_SLOW else {}
        network: nn.Module = models.get_model(name, weights=None, num_classes=config.classes, **options)
        return network
