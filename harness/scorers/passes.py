"""What the scorers of networks have in common: which layers count, the forward pass, and the loss."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from harness.backends.module import _as_in_training, _cuda_devices, _main_output
from spaces.errors import InputError
from spaces.weights import keyed_generator

WeightedLayer = _ConvNd | nn.Linear

NORMS = (_BatchNorm, nn.GroupNorm, nn.LayerNorm)
"""Layers whose scales and shifts no proxy sums over."""


def weighted_layers(network: nn.Module) -> dict[str, WeightedLayer]:
    """Convolutions and linear layers by name: the layers whose weights the proxies sum over.

    Raises:
        InputError: there is none; a weight is frozen; or a parameter belongs to a layer of another kind, which
            no proxy's definition covers.
    """
    layers: dict[str, WeightedLayer] = {}
    for name, module in network.named_modules():
        if isinstance(module, WeightedLayer):
            layers[name] = module
            if not module.weight.requires_grad:
                raise InputError(f"the weight of layer {name} is frozen, so it has no gradient")
        elif not isinstance(module, NORMS):
            for parameter, _ in module.named_parameters(recurse=False):
                raise InputError(
                    f"parameter {f'{name}.{parameter}'.lstrip('.')} belongs to a {type(module).__name__}; "
                    "this score is defined for convolutions and linear layers"
                )
    if not layers:
        raise InputError("no convolution or linear layer")
    return layers


def weights_of(network: nn.Module) -> list[Tensor]:
    """Weights of the weighted layers, in order; each once where layers share it."""
    weights: list[Tensor] = [layer.weight for layer in weighted_layers(network).values()]
    return list({id(weight): weight for weight in weights}.values())


@contextmanager
def as_in_training(network: nn.Module, images: Tensor, seed: int) -> Iterator[None]:
    """Training mode with gradients and dropout drawn from `seed`; the network is left as it was."""
    with _as_in_training(network), torch.random.fork_rng(_cuda_devices(images)), torch.enable_grad():
        torch.manual_seed(seed)
        yield


def _channels_last(images: Tensor) -> Tensor:
    """The same images, pixel by pixel in memory; grey ones with the strides that they have.

    A rectifier that is not in place forgets the order of grey images, and sums of gradients cancel: new strides
    would make a score depend on how the rectifier is written.
    """
    return images.contiguous(memory_format=torch.channels_last) if images.dim() == 4 else images


def logits_of(network: nn.Module, images: Tensor) -> Tensor:
    """Logits [B, classes] of images [B, ...], which survive a network that begins in place.

    Raises `InputError` where the network returns something else.
    """
    try:
        logits = _main_output(network(_channels_last(images) * 1))
    except RuntimeError as error:
        if not str(error).startswith("view size is not compatible"):
            raise
        logits = _main_output(network(images * 1))
    if logits.dim() != 2 or len(logits) != len(images):
        raise InputError(f"the network returns {tuple(logits.shape)}; expected {len(images)} rows of logits")
    return logits


def cross_entropy(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Mean cross entropy of the network on images [B, ...] and labels int64 [B].

    Raises `InputError` where a label has no logit.
    """
    logits = logits_of(network, images)
    if int(labels.max()) >= logits.shape[1]:
        raise InputError(f"label {int(labels.max())} has no logit: the network returns {logits.shape[1]} of them")
    return F.cross_entropy(logits, labels.to(logits.device))


def gradients_of(outputs: Tensor, weights: Sequence[Tensor]) -> list[Tensor]:
    """Gradient of the sum of outputs by each weight, zeros where the outputs do not depend on it."""
    if not outputs.requires_grad:
        return [torch.zeros_like(weight) for weight in weights]
    return list(torch.autograd.grad(outputs.sum(), weights, allow_unused=True, materialize_grads=True))


def total(tensor: Tensor) -> float:
    """Sum of all elements, in float64."""
    return float(tensor.sum(dtype=torch.float64))


@contextmanager
def redrawn(network: nn.Module, seed: int, draw: Callable[[str, Tensor, int], Tensor]) -> Iterator[None]:
    """Other weights and no biases in convolutions and linear layers; the network's own are back after.

    `draw` maps (name, weight, seed) to the new weight. Norms keep scale and shift, which start at 1 and 0.
    """
    own: list[tuple[Tensor, Tensor]] = []
    try:
        for name, layer in weighted_layers(network).items():
            own.append((layer.weight, layer.weight.data))
            layer.weight.data = draw(name, layer.weight, seed).to(layer.weight)
            if layer.bias is not None:
                own.append((layer.bias, layer.bias.data))
                layer.bias.data = torch.zeros_like(layer.bias)
        yield
    finally:
        # Backwards, since layers may share a weight.
        for parameter, values in reversed(own):
            parameter.data = values


def normal(name: str, shape: Sequence[int], seed: int) -> Tensor:
    """Standard normal float32 of this shape, from the stream that belongs to (seed, name)."""
    return torch.from_numpy(keyed_generator(seed, name).standard_normal(tuple(shape), dtype=np.float32))
