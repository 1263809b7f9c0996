"""How the two parts of a vector lie in one: interleaved in chunks, so that any prefix has something of both.

The `shared` part is the text encoder's space; `own` holds what it has no place for: what a description says, level
and shape. Truncating to n dimensions keeps the first n. Knows nothing of where the parts come from.
"""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Layout:
    """`pattern` alternates chunk lengths: shared, own, shared, own …"""

    pattern: tuple[int, ...]

    @property
    def shared(self) -> int:
        """Dimensions of the shared part."""
        return sum(self.pattern[0::2])

    @property
    def own(self) -> int:
        """Dimensions of the other part."""
        return sum(self.pattern[1::2])

    @property
    def dimensions(self) -> int:
        """Dimensions of the whole vector."""
        return sum(self.pattern)

    def join(self, shared: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
        """Lay out (n, shared) and (n, own) as (n, dimensions)."""
        chunks = (shared.split(list(self.pattern[0::2]), 1), own.split(list(self.pattern[1::2]), 1))
        return torch.cat([chunks[place % 2][place // 2] for place in range(len(self.pattern))], dim=1)
