"""How a shared and a detail vector lie in one: interleaved in chunks, so that any prefix has something of both.

Text fills the shared part only. Chunks come in the order of `pattern`; truncating to n dimensions keeps the first
n. Knows nothing of where the two vectors come from.
"""

from dataclasses import dataclass

import torch
from torch.nn import functional


@dataclass(frozen=True)
class Layout:
    """`pattern` alternates chunk lengths: shared, detail, shared, detail …

    `detail_share` is the detail part's share of a signal's squared length: cosine between two signals is
    (1 - share) x cosine of the shared parts + share x cosine of the detail parts.
    """

    pattern: tuple[int, ...]
    detail_share: float

    @property
    def shared(self) -> int:
        """Dimensions of the shared part."""
        return sum(self.pattern[0::2])

    @property
    def detail(self) -> int:
        """Dimensions of the detail part."""
        return sum(self.pattern[1::2])

    @property
    def dimensions(self) -> int:
        """Dimensions of the whole vector."""
        return sum(self.pattern)

    def join(self, shared: torch.Tensor, detail: torch.Tensor, has_signal: torch.Tensor) -> torch.Tensor:
        """Lay out unit vectors (n, shared) and (n, detail) as (n, dimensions), of unit length.

        Where `has_signal` (n,) is false there is no detail and the shared part has length one.
        """
        weight = torch.where(has_signal, self.detail_share, 0.0)[:, None].to(shared)
        return self._interleave(shared * torch.sqrt(1 - weight), detail * torch.sqrt(weight))

    def _interleave(self, shared: torch.Tensor, detail: torch.Tensor) -> torch.Tensor:
        chunks = (shared.split(list(self.pattern[0::2]), 1), detail.split(list(self.pattern[1::2]), 1))
        return torch.cat([chunks[place % 2][place // 2] for place in range(len(self.pattern))], dim=1)


def add_and_normalise(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """The shared part of an item with text and signal: both added, back to unit length."""
    return functional.normalize(first + second, dim=1)
