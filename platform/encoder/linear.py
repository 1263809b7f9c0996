"""A linear layer together with what follows it: an activation, or the addition of a residual.

On CPUs whose oneDNN does it, weights are laid out once as its kernels want them, and what follows is done on each
tile of the product before it is rounded and written. Everywhere else these are torch's plain functions.
Knows nothing of the model around it. The functions are in the part of Python that `scripted` compiles.
"""

import os
from functools import cache
from typing import Final, Literal, NamedTuple

import torch
from torch.nn import functional

Activation = Literal["gelu", "gelu_tanh", "relu"]

_CACHES: Final = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY")
"""Where oneDNN, and torch's layer above it, read how many compiled products they keep; 1,024 each by default."""

_PRODUCTS_PER_THREAD: Final = 8
"""Each thread works on one batch, whose layers repeat four shapes of product."""


class Linear(NamedTuple):
    """`x @ weight.T + bias` for weight (out, in); `fused` says that the weight is laid out for oneDNN."""

    weight: torch.Tensor
    bias: torch.Tensor
    fused: bool


def make_linear(weight: torch.Tensor, bias: torch.Tensor, device: torch.device, dtype: torch.dtype) -> Linear:
    """Lay a layer's tensors out for a device and a precision."""
    fused = can_fuse(device, dtype)
    if fused:
        _bound_caches()
    plain = weight.to(device, dtype).contiguous()
    return Linear(
        torch.ops.mkldnn._reorder_linear_weight(plain) if fused else plain, bias.to(device, dtype), fused
    )


def linear(layer: Linear, rows: torch.Tensor) -> torch.Tensor:
    """Rows (n, in) to rows (n, out)."""
    if layer.fused:
        product: torch.Tensor = torch.ops.mkldnn._linear_pointwise(rows, layer.weight, layer.bias, "none", [], "")
        return product
    return functional.linear(rows, layer.weight, layer.bias)


def linear_activated(layer: Linear, rows: torch.Tensor, activation: str) -> torch.Tensor:
    """The layer, then an Activation."""
    if layer.fused:
        name = "relu" if activation == "relu" else "gelu"
        algorithm = "tanh" if activation == "gelu_tanh" else "" if activation == "relu" else "none"
        product: torch.Tensor = torch.ops.mkldnn._linear_pointwise(
            rows, layer.weight, layer.bias, name, [], algorithm
        )
        return product
    return activate(functional.linear(rows, layer.weight, layer.bias), activation)


def linear_added(layer: Linear, rows: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
    """The layer, then `residual` (n, out) added to it."""
    if layer.fused:
        total: torch.Tensor = torch.ops.mkldnn._linear_pointwise(rows, residual, layer.weight, layer.bias, "add")
        return total
    return functional.linear(rows, layer.weight, layer.bias) + residual


@cache
def _bound_caches() -> None:
    """Keep few compiled products: one is for a number of rows that hardly comes again, and takes a megabyte.

    It counts for what oneDNN is first asked after it, in this process; what the environment says already stays.
    """
    products = max(16, _PRODUCTS_PER_THREAD * torch.get_num_threads())
    for variable in _CACHES:
        os.environ.setdefault(variable, str(products))


def can_fuse(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether this build of torch and this processor have oneDNN's fused layer for `dtype`."""
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    if not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return False
    if dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return dtype == torch.float32


def activate(rows: torch.Tensor, activation: str) -> torch.Tensor:
    """An Activation by itself."""
    if activation == "relu":
        return functional.relu(rows)
    return functional.gelu(rows, approximate="tanh" if activation == "gelu_tanh" else "none")
