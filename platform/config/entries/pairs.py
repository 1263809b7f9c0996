"""What entries share that measure an encoder on generated captions and their series."""

from pydantic import Field

from lakebed.platform.config.entries.base import OneSet
from lakebed.platform.config.entries.cross_modal import CrossModal


class GeneratedPairs(OneSet):
    """Generated captions of the test split and the series that they describe."""

    name: str = "synthetic"
    """Name of the data set in figures; the number of pairs is put behind it."""

    pool: int = Field(default=500, ge=2)
    """How many pairs."""

    seed: int = 20261121
    """Seed of the generated pairs."""

    @property
    def known_as(self) -> str | None:
        """Its name."""
        return self.name

    @property
    def pairs(self) -> CrossModal:
        """The pairs, as retrieval reads them."""
        return CrossModal(task="cross_modal", name=self.name, pool=self.pool, seed=self.seed)
