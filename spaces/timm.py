"""timm's models, by name; needs the extra `timm`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from spaces.base import NetworkConfig
from spaces.errors import InputError
from spaces.modules import NamedNetworks

if TYPE_CHECKING:
    from torch import nn


class Timm(NamedNetworks[NetworkConfig]):
    """Every model that timm lists."""

    name = "timm"
    description = 'timm\'s models, by name; needs pip install "tfnas[timm]"'
    config_type = NetworkConfig

    def names(self) -> list[str]:
        """Names as `timm.list_models` gives them."""
        return list(_timm().list_models())

    def build(self, name: str, config: NetworkConfig) -> nn.Module:
        """Untrained model for the data set's channels and classes."""
        network: nn.Module = _timm().create_model(
            name, pretrained=False, num_classes=config.classes, in_chans=config.input_channels
        )
        return network


def _timm() -> Any:
    try:
        import timm
    except ImportError as error:
        raise InputError('--space timm needs the package timm: pip install "tfnas[timm]"') from error
    return timm
