"""A linear layer together with what follows it: an activation, or the addition of a residual.

On CPUs whose oneDNN does it, weights are laid out once as its kernels want them, and what follows is done on each
tile of the product before it is rounded and written. Everywhere else these are torch's plain functions.
Knows nothing of the model around it.
"""

from typing import Final, Literal

import torch
from torch.nn import functional

Activation = Literal["gelu", "gelu_tanh", "relu"]

_ONEDNN_ACTIVATIONS: Final[dict[Activation, tuple[str, str]]] = {
    "gelu": ("gelu", "none"),
    "gelu_tanh": ("gelu", "tanh"),
    "relu": ("relu", ""),
}
"""Names of the activation and of its algorithm in oneDNN's operations."""


class Linear:
    """`x @ weight.T + bias` for weight (out, in); the methods say what comes after it.

    `operations` counts the multiplications and additions for one row.
    """

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor, device: torch.device, dtype: torch.dtype) -> None:
        self.operations = 2 * weight.numel()
        self.bias = bias.to(device, dtype)
        self.fused = can_fuse(device, dtype)
        plain = weight.to(device, dtype).contiguous()
        self.weight = torch.ops.mkldnn._reorder_linear_weight(plain) if self.fused else plain

    def __call__(self, rows: torch.Tensor) -> torch.Tensor:
        """Rows (n, in) to rows (n, out)."""
        if self.fused:
            product: torch.Tensor = torch.ops.mkldnn._linear_pointwise(
                rows, self.weight, self.bias, "none", [], ""
            )
            return product
        return functional.linear(rows, self.weight, self.bias)

    def activated(self, rows: torch.Tensor, activation: Activation) -> torch.Tensor:
        """The layer, then an activation."""
        if self.fused:
            name, algorithm = _ONEDNN_ACTIVATIONS[activation]
            product: torch.Tensor = torch.ops.mkldnn._linear_pointwise(
                rows, self.weight, self.bias, name, [], algorithm
            )
            return product
        return activate(functional.linear(rows, self.weight, self.bias), activation)

    def added(self, rows: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
        """The layer, then `residual` (n, out) added to it."""
        if self.fused:
            total: torch.Tensor = torch.ops.mkldnn._linear_pointwise.binary(
                rows, residual, self.weight, self.bias, "add"
            )
            return total
        return functional.linear(rows, self.weight, self.bias) + residual


def can_fuse(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether this build of torch and this processor have oneDNN's fused layer for `dtype`."""
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    if not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return False
    if dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return dtype == torch.float32


def activate(rows: torch.Tensor, activation: Activation) -> torch.Tensor:
    """An activation by itself."""
    if activation == "relu":
        return functional.relu(rows)
    return functional.gelu(rows, approximate="tanh" if activation == "gelu_tanh" else "none")
