"""Rates of the dropout of a recurrent language model."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Self

from spaces.errors import InputError


@dataclass(frozen=True)
class DropoutRates:
    """Probabilities of dropout; the defaults are the authors' (rnn/train_search.py, DARTS, appendix A.1.2).

    `token` drops words from the vocabulary, `embedding` and `input` units of the embedded words, `hidden` units
    of what a node reads, `output` units of what the decoder reads.

    Raises:
        InputError: a rate below 0, or not below 1.
    """

    token: float = 0.0
    embedding: float = 0.2
    input: float = 0.75
    hidden: float = 0.25
    output: float = 0.75

    def __post_init__(self) -> None:
        for field in fields(self):
            rate = getattr(self, field.name)
            if not 0 <= rate < 1:
                raise InputError(f"dropout of {field.name} must be at least 0 and below 1, not {rate}")

    @classmethod
    def everywhere(cls, rate: float) -> Self:
        """One rate for input, hidden and output; whole words are kept, and units are dropped once."""
        return cls(token=0.0, embedding=0.0, input=rate, hidden=rate, output=rate)
