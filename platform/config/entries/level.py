"""An entry of series that differ in level only."""

from typing import Literal

from pydantic import PositiveInt

from lakebed.platform.config.entries.base import OneSet


class Level(OneSet):
    """Two series that differ in level only, and their captions: which belongs to which."""

    task: Literal["level"]
    """Chooses this kind of entry."""

    name: str = "levels"
    """Name of the data set in figures."""

    pairs: PositiveInt = 300
    """How many pairs of series are generated."""

    seed: int = 20261121
    """Seed of the generated pairs."""

    @property
    def known_as(self) -> str | None:
        """Its name."""
        return self.name
