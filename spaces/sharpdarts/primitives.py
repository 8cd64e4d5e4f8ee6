"""The operations of sharpDARTS, and genotypes that its authors print (cnn/genotypes.py)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from spaces.darts.genotype import MAX_POOL, NONE, SKIP, Genotype, parse_genotype
from spaces.darts.genotype import PUBLISHED as OF_DARTS


class SharpShape(NamedTuple):
    """A SharpSepConv of 3 x 3: dilation of its first half, and the channels between the halves.

    These are `flood` times those of the output, or as many as the config's choke.
    """

    dilation: int = 1
    flood: int = 1
    choke: bool = False

    def middle(self, channels: int, choke_channels: int) -> int:
        """Channels between the halves."""
        return choke_channels if self.choke else self.flood * channels


FLOOD = 4
"""By how much flood widens the middle (cnn/operations.py)."""

SHARP = {
    "sep_conv_3x3": SharpShape(),
    "dil_conv_3x3": SharpShape(dilation=2),
    "flood_conv_3x3": SharpShape(flood=FLOOD),
    "dil_flood_conv_3x3": SharpShape(dilation=2, flood=FLOOD),
    "choke_conv_3x3": SharpShape(choke=True),
    "dil_choke_conv_3x3": SharpShape(dilation=2, choke=True),
}
KERNEL = 3

OPERATIONS = (NONE, MAX_POOL, SKIP, *SHARP)
"""In the authors' order, which is the order of the alphas."""

_SHARP_DARTS = (
    "Genotype(normal=[('choke_conv_3x3', 0), ('choke_conv_3x3', 1), ('skip_connect', 0), ('choke_conv_3x3', 1), "
    "('skip_connect', 0), ('skip_connect', 1), ('skip_connect', 0), ('skip_connect', 1)], "
    "reduce=[('max_pool_3x3', 0), ('skip_connect', 1), ('max_pool_3x3', 0), ('skip_connect', 2), "
    "('max_pool_3x3', 0), ('skip_connect', 2), ('skip_connect', 2), ('flood_conv_3x3', 0)])"
)

PUBLISHED: Mapping[str, Genotype] = {
    "SHARP_DARTS": parse_genotype(_SHARP_DARTS, OPERATIONS),
    "DARTS_V2": OF_DARTS["DARTS_V2"],
}
"""What the authors' search found, and the cells of DARTS that they trained with SharpSepConv instead."""
