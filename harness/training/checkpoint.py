"""The state of a training after its last epoch, in a file that is whole or not there."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from harness.records import Epoch
from spaces.errors import InputError

STATE = ("belongs_to", "network", "optimiser", "curve")


@dataclass(frozen=True)
class Checkpoint:
    """A file, and what the training in it must belong to: its architecture, recipe, seed, data and so on.

    The order of the data and its augmentation come from (seed, epoch) and the learning rate from the step, so
    weights, momenta and the curve are the whole state.
    """

    path: Path
    belongs_to: Mapping[str, str | int]

    def save(self, network: nn.Module, optimiser: torch.optim.Optimizer, curve: list[Epoch]) -> None:
        """Replace the file in one step. Raises `InputError` if it cannot be written."""
        buffer = io.BytesIO()
        values = (
            dict(self.belongs_to),
            network.state_dict(),
            optimiser.state_dict(),
            [astuple(epoch) for epoch in curve],
        )
        torch.save(dict(zip(STATE, values, strict=True)), buffer)
        partial = self.path.with_name(f"{self.path.name}.{os.getpid()}")
        try:
            with partial.open("wb") as file:
                file.write(buffer.getbuffer())
                file.flush()
                os.fsync(file.fileno())
            partial.replace(self.path)
        except OSError as error:
            raise InputError(f"checkpoint {self.path} cannot be written: {error.strerror}") from error

    def load(self, network: nn.Module, optimiser: torch.optim.Optimizer) -> list[Epoch]:
        """Put network and optimiser into the saved state; return the curve so far, empty if there is no file.

        Raises:
            InputError: the file is damaged, or of another training: then the first difference is named.
        """
        if not self.path.exists():
            return []
        state = self._read()
        self._compare("its {}", state["belongs_to"], self.belongs_to)
        self._compare("the shape of its {}", _shapes(state["network"]), _shapes(network.state_dict()))
        network.load_state_dict(state["network"])
        optimiser.load_state_dict(state["optimiser"])
        return [Epoch(*values) for values in state["curve"]]

    def remove(self) -> None:
        """Delete the file, and what killed processes left of it."""
        for path in self.path.parent.glob(f"{self.path.name}*"):
            path.unlink(missing_ok=True)

    def _read(self) -> dict[str, Any]:
        try:
            state = torch.load(self.path, map_location="cpu", weights_only=True)
            if tuple(state) != STATE:
                raise ValueError("not what a training saves")
        # A damaged archive fails in many ways, all of which mean the same.
        except Exception as error:
            raise InputError(
                f"checkpoint {self.path} is damaged or not a checkpoint of a training; delete it to train anew"
            ) from error
        checked: dict[str, Any] = state
        return checked

    def _compare(self, what: str, saved: Mapping[str, object], expected: Mapping[str, object]) -> None:
        for name in [*expected, *(name for name in saved if name not in expected)]:
            if saved.get(name) != expected.get(name):
                raise InputError(
                    f"checkpoint {self.path} belongs to another training: {what.format(name)} is "
                    f"{saved.get(name, 'absent')}, here {expected.get(name, 'absent')}"
                )


def _shapes(state: Mapping[str, torch.Tensor]) -> dict[str, object]:
    return {name: tuple(tensor.shape) for name, tensor in state.items()}
