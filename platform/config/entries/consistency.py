"""An entry on whether one item always gets one vector."""

from typing import Literal

from pydantic import Field, PositiveInt, model_validator

from lakebed.platform.config.entries.pairs import GeneratedPairs


class Consistency(GeneratedPairs):
    """Alone against in a batch, in another order, in smaller numbers, served, and by another version."""

    task: Literal["consistency"]
    """Chooses this kind of entry."""

    alone: PositiveInt = 64
    """How many items of each part are also embedded alone, and asked of the endpoint."""

    batch_rows: PositiveInt = 7
    """Rows of the smaller batches."""

    neighbours: PositiveInt = 10
    """How many nearest neighbours of an item are looked at."""

    served: str | None = Field(default=None, pattern=r"^https?://[^@\s]+$")
    """A served model, http://HOST/v1?model=NAME, whose vectors are compared with these; see `--model`."""

    baseline: str | None = None
    """A model reference, NAME@VERSION or a folder, whose nearest neighbours are compared with these."""

    @model_validator(mode="after")
    def _no_further_lengths(self) -> "Consistency":
        if self.dimensions:
            raise ValueError("dimensions: the encoder is measured at the suite's own length")
        return self
