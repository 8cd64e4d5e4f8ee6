"""Curves of a search for TensorBoard, where it is installed and asked for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from spaces.errors import InputError


class CurveWriter:
    """Writes scalars to TensorBoard's files, or nowhere."""

    def __init__(self, writer: Any | None) -> None:
        self._writer = writer

    def add(self, name: str, value: float, epoch: int) -> None:
        """One point of a curve."""
        if self._writer:
            self._writer.add_scalar(name, value, epoch)


@contextmanager
def open_curves(wanted: bool, folder: Path) -> Iterator[CurveWriter]:
    """Curves in `folder`/tensorboard if wanted. Raises `InputError` if TensorBoard is not installed."""
    if not wanted:
        yield CurveWriter(None)
        return
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise InputError("--tensorboard needs the package tensorboard: install tfnas[tensorboard]") from error
    with SummaryWriter(str(folder / "tensorboard")) as writer:
        yield CurveWriter(writer)
