"""What a text says of a signal: a small head on the text encoder's token states, and how sure it is.

The sentence vector of a general text encoder blurs which event happens where, and numbers; its token states do
not. Several attention heads pool the states of a middle layer, and a perceptron maps what they found to the space
in which signals are described. A gate decides how far a text is a description at all: the angle by which its
vector is turned out of the plain text part into the description part. It is exactly 0 for most other text, whose
vector then is the text encoder's own. Knows nothing of signals.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

Tensors = Mapping[str, torch.Tensor]

_SHUT, _OPEN = 0.5, 2.5
"""What the gate gives up to the first is not yet a description: real text is more varied than what it was fitted
on. From the second on it surely is one."""

_DOUBT = 0.25
"""The gate may give so much more in float32 than in bfloat16; 0.06 was the most seen."""

NAMES = (
    "queries", "values", "norm_scale", "norm_shift", "hidden", "hidden_bias", "hidden_scale", "hidden_shift",
    "out", "gate", "gate_bias",
)  # fmt: skip


@dataclass(frozen=True)
class DescriptionSpec:
    """`layer` of the text encoder whose states are read, from 1; `angle`, the largest turn, in radians."""

    layer: int
    angle: float


class DescriptionHead:
    """Token states of n texts to n description vectors and angles."""

    def __init__(
        self, spec: DescriptionSpec, tensors: Mapping[str, npt.NDArray[Any]], device: torch.device
    ) -> None:
        self.spec = spec
        self.tensors = {
            name: torch.from_numpy(tensors[f"description.{name}"].astype(np.float32)).to(device) for name in NAMES
        }
        self.width = int(self.tensors["out"].shape[1])

    @torch.inference_mode()
    def __call__(
        self, states: torch.Tensor, owner: torch.Tensor, plain: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Unit vectors (n, width) and angles (n,) of n texts, and which may be descriptions if computed exactly.

        Takes states (tokens, hidden) whose texts are `owner`, and the plain text vectors (n, s).
        """
        found = hidden(attend(states, owner, len(plain), self.tensors), self.tensors)
        vectors = functional.normalize(found @ self.tensors["out"], dim=1)
        given = gate(evidence(found, plain), self.tensors)
        return vectors, self.spec.angle * sureness(given), given > _SHUT - _DOUBT


def attend(states: torch.Tensor, owner: torch.Tensor, count: int, tensors: Tensors) -> torch.Tensor:
    """Pool each text's states once per attention head: (count, heads x width of a head).

    `queries` (hidden, heads) score every token; a softmax over a text's tokens weights the token's `values`
    (hidden, heads x width). A text without tokens gives zeros. Products are in the precision of `states`, the rest
    in float32.
    """
    heads = tensors["queries"].shape[1]
    scores = (states @ tensors["queries"].to(states.dtype)).float()
    places = owner[:, None].expand(-1, heads)
    highest = torch.full((count, heads), -torch.inf, device=states.device)
    highest = highest.scatter_reduce(0, places, scores.detach(), "amax")
    weights = torch.exp(scores - highest[owner])
    sums = torch.zeros((count, heads), device=states.device).index_add(0, owner, weights)
    values = (states @ tensors["values"].to(states.dtype)).float()
    values = values.unflatten(1, (heads, -1)) * weights[:, :, None]
    pooled = torch.zeros((count, *values.shape[1:]), device=states.device).index_add(0, owner, values)
    return (pooled / sums.clamp(min=1e-30)[:, :, None]).flatten(1)


def hidden(pooled: torch.Tensor, tensors: Tensors) -> torch.Tensor:
    """The perceptron's last hidden layer: layer norm, product, GELU, layer norm."""
    normed = functional.layer_norm(pooled, pooled.shape[1:], tensors["norm_scale"], tensors["norm_shift"])
    widened = functional.gelu(normed @ tensors["hidden"] + tensors["hidden_bias"])
    return functional.layer_norm(widened, widened.shape[1:], tensors["hidden_scale"], tensors["hidden_shift"])


def evidence(found: torch.Tensor, plain: torch.Tensor) -> torch.Tensor:
    """What the gate judges by (n, hidden + s): what the head found, and what the text is about, at equal scale."""
    return torch.cat([found, plain.to(found) * plain.shape[1] ** 0.5], dim=1)


def gate(seen: torch.Tensor, tensors: Tensors) -> torch.Tensor:
    """What the gate gives (n,) for evidence (n, e): fitted to be 0 for other text, 1 and more for descriptions."""
    return seen @ tensors["gate"] + tensors["gate_bias"]


def sureness(given: torch.Tensor) -> torch.Tensor:
    """How far texts are descriptions (n,): 0 no, 1 surely, linear in between."""
    return ((given - _SHUT) / (_OPEN - _SHUT)).clamp(0, 1)
