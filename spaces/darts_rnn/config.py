"""Width and vocabulary of a DARTS language model, and what it costs."""

from __future__ import annotations

from dataclasses import dataclass

from spaces.base import Complexity, NetworkConfig
from spaces.darts_rnn.genotype import NODES
from spaces.errors import InputError


@dataclass(frozen=True)
class DARTSRNNConfig(NetworkConfig):
    """`hidden` units of embedding and states; the defaults are those of the authors' evaluation on Penn Treebank.

    For text the fields of every config mean: `classes` the tokens of the vocabulary, each with a logit;
    `image_size` the tokens of a sequence that is scored; `input_channels` one token at a place.
    """

    input_channels: int = 1
    image_size: int = 35
    classes: int = 10_000
    hidden: int = 850

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.input_channels != 1:
            raise InputError(
                f"space darts-rnn reads text, not images of {self.input_channels} channels: "
                "give --dataset text, ptb:PATH or wikitext2:PATH"
            )

    def complexity(self) -> Complexity:
        """Parameters, and multiply-accumulates of a sequence: the same for every genotype of a size.

        The decoder's weights are those of the embedding and count once; it has a bias, the cell has none. As in
        scoring, only the last state of a sequence goes through the decoder.
        """
        recurrent = (2 + NODES) * 2 * self.hidden**2
        decoder = self.classes * self.hidden
        return Complexity(decoder + self.classes + recurrent, self.image_size * recurrent + decoder)
