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

    url: str | None = Field(default=None, pattern=r"^https?://[^@\s]+$")
    """An OpenAI-compatible endpoint, such as http://127.0.0.1:8000/v1, whose vectors are compared with these."""

    served_model: str | None = None
    """What the endpoint calls the model."""

    key_env: str | None = None
    """Environment variable that holds the endpoint's API key; without it, no key is sent."""

    served_parts: tuple[Literal["text", "signal"], ...] = ("text", "signal")
    """What the endpoint is asked; most others than lakebed's take texts only."""

    baseline: str | None = None
    """A model reference, NAME@VERSION or a folder, whose nearest neighbours are compared with these."""

    @model_validator(mode="after")
    def _an_endpoint_is_asked_for_a_model(self) -> "Consistency":
        if (self.url is None) != (self.served_model is None):
            raise ValueError("url and served_model belong together")
        if self.dimensions:
            raise ValueError("dimensions: the encoder is measured at the suite's own length")
        return self
