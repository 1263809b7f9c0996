"""An entry on how vectors lie in their space."""

from typing import Literal

from lakebed.platform.config.entries.pairs import GeneratedPairs


class Geometry(GeneratedPairs):
    """Alignment, uniformity, rank and the gap between texts and signals, on generated pairs."""

    task: Literal["geometry"]
    """Chooses this kind of entry."""
