"""The sharpDARTS space: cells of DARTS over SharpSepConv in every form (Hundt, Jain and Hager, 2019)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from spaces.darts import DARTS, DARTSConfig, Genotype
from spaces.sharpdarts.config import SharpDARTSConfig
from spaces.sharpdarts.primitives import OPERATIONS, PUBLISHED

if TYPE_CHECKING:
    from spaces.darts.network import OperationMaker

__all__ = ["SharpDARTS", "SharpDARTSConfig"]


class SharpDARTS(DARTS):
    """DARTS with other operations: plain, dilated, flood and choke SharpSepConv, maximum pooling, skip."""

    name = "sharpdarts"
    description = "DARTS cells over eight operations, six of them SharpSepConv: plain, dilated, flood, choke"
    config_type = SharpDARTSConfig

    operations: ClassVar[tuple[str, ...]] = OPERATIONS
    published: ClassVar[Mapping[str, Genotype]] = PUBLISHED

    def operation_maker(self, config: DARTSConfig) -> OperationMaker:
        """What makes the modules of the operations, with the config's width of the choke."""
        from functools import partial

        from spaces.sharpdarts.operations import make_operation

        assert isinstance(config, SharpDARTSConfig)
        return partial(make_operation, choke_channels=config.choke_channels)
