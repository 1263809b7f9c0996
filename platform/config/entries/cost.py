"""An entry on what embedding costs on this machine."""

from typing import Literal

from pydantic import PositiveInt, model_validator

from lakebed.platform.config.entries.pairs import GeneratedPairs


class Cost(GeneratedPairs):
    """Rows a second, latency of single items, memory: figures of a machine, never of a model's quality."""

    task: Literal["cost"]
    """Chooses this kind of entry."""

    repeats: PositiveInt = 5
    """How often each part is embedded whole; the rate is the median's."""

    alone: PositiveInt = 100
    """How many items of each part are embedded alone for the latencies."""

    @model_validator(mode="after")
    def _lengths_cost_the_same(self) -> "Cost":
        if self.dimensions:
            raise ValueError("dimensions: cutting vectors costs nothing")
        return self
