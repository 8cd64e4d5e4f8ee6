"""The state of a training or a search after its last epoch, in a file that is whole or not there."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import nn

from spaces.errors import InputError, Stopped


class Stateful(Protocol):
    """A network or an optimiser."""

    def state_dict(self) -> dict[str, Any]:
        """What it needs to go on."""

    def load_state_dict(self, state_dict: dict[str, Any], /) -> Any:
        """Go on from there."""


Row = tuple[Any, ...]
"""An epoch: numbers, texts, and lists and dictionaries of them."""


@dataclass(frozen=True)
class Checkpoint:
    """A file, and what the training in it must belong to: its architecture, recipe, seed, data and so on.

    The order of the data and its augmentation come from (seed, epoch) and the learning rate from the step, so
    weights, momenta and the epochs so far are the whole state. `work` names what was cut off.
    """

    path: Path
    belongs_to: Mapping[str, str | int]
    work: str = "training"

    def save(self, parts: Mapping[str, Stateful], curve: Sequence[Row]) -> None:
        """Replace the file in one step. Raises `InputError` if it cannot be written."""
        buffer = io.BytesIO()
        states = {name: part.state_dict() for name, part in parts.items()}
        torch.save({"belongs_to": dict(self.belongs_to), **states, "curve": list(curve)}, buffer)
        partial = self.path.with_name(f"{self.path.name}.{os.getpid()}")
        try:
            with partial.open("wb") as file:
                file.write(buffer.getbuffer())
                file.flush()
                os.fsync(file.fileno())
            partial.replace(self.path)
        except OSError as error:
            raise InputError(f"checkpoint {self.path} cannot be written: {error.strerror}") from error

    def load(self, parts: Mapping[str, Stateful]) -> list[Row]:
        """Put the parts into the saved state; return the epochs so far, none if there is no file.

        Raises:
            InputError: the file is damaged, or of another training: then the first difference is named.
        """
        if not self.path.exists():
            return []
        state = self._read(("belongs_to", *parts, "curve"))
        self._compare("its {}", state["belongs_to"], self.belongs_to)
        for name, part in parts.items():
            if isinstance(part, nn.Module):
                self._compare("the shape of its {}", _shapes(state[name]), _shapes(part.state_dict()))
            part.load_state_dict(state[name])
        epochs: list[Row] = state["curve"]
        return epochs

    def remove(self) -> None:
        """Delete the file, and what killed processes left of it."""
        for path in self.path.parent.glob(f"{self.path.name}*"):
            path.unlink(missing_ok=True)

    def _read(self, expected: tuple[str, ...]) -> dict[str, Any]:
        try:
            state = torch.load(self.path, map_location="cpu", weights_only=True)
            if tuple(state) != expected:
                raise ValueError(f"not what a {self.work} saves")
        # A damaged archive fails in many ways, all of which mean the same.
        except Exception as error:
            raise InputError(
                f"checkpoint {self.path} is damaged or not a checkpoint of a {self.work}; delete it to begin anew"
            ) from error
        checked: dict[str, Any] = state
        return checked

    def _compare(self, what: str, saved: Mapping[str, object], expected: Mapping[str, object]) -> None:
        for name in [*expected, *(name for name in saved if name not in expected)]:
            if saved.get(name) != expected.get(name):
                raise InputError(
                    f"checkpoint {self.path} belongs to another {self.work}: {what.format(name)} is "
                    f"{saved.get(name, 'absent')}, here {expected.get(name, 'absent')}"
                )


def stop_unless_finite(losses: Sequence[float], epoch: int, checkpoint: Checkpoint | None) -> None:
    """Raise `Stopped` for losses of an epoch that are no longer finite; the checkpoint holds those before it."""
    if not all(map(math.isfinite, losses)):
        where = f" in {checkpoint.path}" if checkpoint and epoch > 1 else ""
        raise Stopped(
            f"the loss is no longer finite in epoch {epoch}; the {epoch - 1} epochs before it are kept{where}"
        )


def _shapes(state: Mapping[str, torch.Tensor]) -> dict[str, object]:
    return {name: tuple(tensor.shape) for name, tensor in state.items()}
