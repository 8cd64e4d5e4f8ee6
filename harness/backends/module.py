"""The Hamming kernel of any torch module, from one forward pass."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.autograd.graph import Node, saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode

from harness.backends.kernel_matrix import KernelMatrix
from spaces.errors import InputError

aten = torch.ops.aten


def module_kernel(network: nn.Module, images: Tensor, seed: int = 0) -> NDArray[np.int64] | None:
    """K over every rectifier that the network's output depends on, int64 [B, B]; None where there is none.

    images: [B, ...] on the network's device. The network runs once in training mode (batch statistics,
    dropout drawn from `seed`) and is left as it was. A rectifier is ReLU, ReLU6, leaky ReLU, PReLU, or a
    clamp at 0 from below, in any form: module, function, in-place, called twice, inside TorchScript. Its code
    is the sign of its input. It counts where the autograd graph of the output reaches it, which is where the
    authors' backward hooks fire; an auxiliary head whose loss is not asked for does not count.

    Raises:
        MemoryError: the device has not enough memory for these images.
        InputError: the network fails on these images, or reads a rectifier whose first axis is not the batch.
    """
    with _as_in_training(network), torch.random.fork_rng(_cuda_devices(images)), torch.enable_grad():
        try:
            return _kernel_of_run(network, _pixel_by_pixel(images), seed)
        except _OrderRefused:
            return _kernel_of_run(network, images, seed)


def lacks_memory(error: Exception) -> bool:
    """Whether it is for lack of memory, which says nothing of the network; torch has several ways to say so."""
    said = any(words in str(error) for words in ("not enough memory", "can't allocate memory"))
    return said or isinstance(error, MemoryError | torch.OutOfMemoryError)


class _OrderRefused(InputError):
    """The network asks for a view that the order of its feature maps in memory does not have."""


def _kernel_of_run(network: nn.Module, images: Tensor, seed: int) -> NDArray[np.int64] | None:
    recorder = _RectifierRecorder(len(images))
    torch.manual_seed(seed)
    # Whole numbers, such as the words of a text, have no gradient.
    leaf = images.detach().requires_grad_(images.is_floating_point())
    with _Discarded(), recorder:
        try:
            output = network(leaf * 1)
        except (RuntimeError, ValueError, TypeError, AssertionError) as error:
            if lacks_memory(error):
                raise MemoryError(str(error)) from error
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            refused = _OrderRefused if reason.startswith("view size is not compatible") else InputError
            raise refused(
                f"network {type(network).__name__} failed on images of shape {tuple(images.shape)}: {reason}"
            ) from error
    return recorder.kernel(_reachable(_main_output(output)))


def _pixel_by_pixel(images: Tensor) -> Tensor:
    """The same images in channels-last order: on a CPU convolutions run twice as fast then, and pools ten times.

    Grey images lie in both orders as they are, and torch would take the other: the strides of new memory say which
    is meant.
    """
    if images.dim() != 4:
        return images
    return torch.empty_like(images, memory_format=torch.channels_last).copy_(images)


class _Discarded(saved_tensors_hooks):
    """Nothing is kept for a backward pass: the graph is walked, never run."""

    def __init__(self) -> None:
        super().__init__(lambda _: None, lambda nothing: nothing)


class _RectifierRecorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Keeps, for each rectifier that runs, its autograd node and its own kernel.

    Operations are seen below autograd, so the node of an output is known only when its operation has
    returned: it is looked up at the next operation, before anything can change the tensor in place.
    """

    def __init__(self, batch_size: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._batch_size = batch_size
        self._pending: tuple[Tensor, KernelMatrix] | None = None
        self._read: list[tuple[Node | None, KernelMatrix]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        kwargs = kwargs or {}
        self._settle()
        if not _is_rectifier(func, args, kwargs):
            return func(*args, **kwargs)
        matrix = self._own_kernel(args[0])
        output = func(*args, **kwargs)
        self._pending = (output, matrix)
        return output

    def _own_kernel(self, relu_input: Tensor) -> KernelMatrix:
        if relu_input.dim() == 0 or len(relu_input) != self._batch_size:
            raise InputError(
                f"a rectifier reads a tensor of shape {tuple(relu_input.shape)}, whose first axis is not the "
                f"batch of {self._batch_size}: its codes cannot be told apart by image"
            )
        matrix = KernelMatrix(self._batch_size)
        matrix.add(relu_input.detach())
        return matrix

    def _settle(self) -> None:
        if self._pending is not None:
            output, matrix = self._pending
            self._read.append((output.grad_fn, matrix))
            self._pending = None

    def kernel(self, reachable: set[Node]) -> NDArray[np.int64] | None:
        """Sum of the kernels of the rectifiers whose node is reachable."""
        self._settle()
        kernels = [matrix.matrix() for node, matrix in self._read if node in reachable]
        return sum(kernels[1:], kernels[0]) if kernels else None


ALWAYS = (aten.relu, aten.relu_, aten.leaky_relu, aten.leaky_relu_, aten._prelu_kernel)
HARDTANH = (aten.hardtanh, aten.hardtanh_)
CLAMP = (aten.clamp, aten.clamp_, aten.clamp_min, aten.clamp_min_)
THRESHOLD = (aten.threshold, aten.threshold_)


def _is_rectifier(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    packet = func.overloadpacket
    if packet in ALWAYS:
        return True
    if packet in HARDTANH:
        return bool(_argument(args, kwargs, 1, "min_val", -1.0) == 0)
    if packet in CLAMP:
        lower = _argument(args, kwargs, 1, "min", None)
        return isinstance(lower, int | float) and lower == 0
    if packet in THRESHOLD:
        return bool(
            _argument(args, kwargs, 1, "threshold", None) == 0 == _argument(args, kwargs, 2, "value", None)
        )
    return False


def _argument(args: Sequence[Any], kwargs: Mapping[str, Any], position: int, name: str, default: Any) -> Any:
    return args[position] if len(args) > position else kwargs.get(name, default)


def _main_output(output: Any) -> Tensor:
    """The logits among what a network returns: the tensor, `logits` or `out`, or the first of several."""
    if isinstance(output, Tensor):
        return output
    if isinstance(output, Mapping):
        named = [output[name] for name in ("logits", "out") if name in output]
        return _main_output(named[0] if named else next(iter(output.values())))
    if isinstance(output, Sequence) and output:
        return _main_output(output[0])
    raise InputError(
        f"the network returns {type(output).__name__}; expected a tensor, or a tuple or dict of tensors"
    )


def _reachable(output: Tensor) -> set[Node]:
    """Nodes of the autograd graph that the output depends on."""
    found: set[Node] = set()
    pending = [output.grad_fn]
    while pending:
        node = pending.pop()
        if node is not None and node not in found:
            found.add(node)
            pending += [below for below, _ in node.next_functions]
    return found


@contextmanager
def _as_in_training(network: nn.Module) -> Iterator[None]:
    """Training mode inside; the mode of every module and the contents of every buffer restored after."""
    modes = {module: module.training for module in network.modules()}
    buffers = {buffer: buffer.detach().clone() for buffer in network.buffers()}
    network.train()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
        with torch.no_grad():
            for buffer, kept in buffers.items():
                buffer.copy_(kept)


def _cuda_devices(images: Tensor) -> list[torch.device]:
    return [images.device] if images.is_cuda else []
