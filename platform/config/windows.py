"""How a long sensor table, one row per sample, is cut into windows: the `windows` section of a job.

Arithmetic of lengths only; what a table holds is looked at when the job starts.
"""

import re
from fractions import Fraction
from typing import Any, Final, Literal, Self

from pydantic import Field, field_validator, model_validator

from lakebed.platform.config.base import Config
from lakebed.platform.config.storage import normal_uri

WINDOW_SERIES: Final = "lb_window"
WINDOW_START: Final = "lb_window_start"
WINDOW_END: Final = "lb_window_end"
WINDOW_SAMPLES: Final = "lb_window_samples"
WINDOW_COLUMNS: Final = (WINDOW_START, WINDOW_END, WINDOW_SAMPLES)
"""Columns of a result that say which window a row is."""

TimeUnit = Literal["s", "ms", "us", "ns"]
TICKS: Final[dict[str, int]] = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
"""Ticks of a second."""

_DURATION: Final = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(ns|us|ms|s|min|h)\s*")
_SECONDS: Final = {unit: Fraction(1, ticks) for unit, ticks in TICKS.items()} | {
    "min": Fraction(60),
    "h": Fraction(3600),
}
_TOLERANCE: Final = Fraction(1, 1000)
"""How far from a whole number of samples a duration may be, in samples: a rate is rarely exact."""


class WindowsConfig(Config):
    """Cut a table of one row per sample into windows, and embed those."""

    entity: tuple[str, ...] = Field(min_length=1)
    """Columns that say whose sample a row is, such as a machine's id; no window spans two."""

    time: str
    """Column of a sample's time: a timestamp, or a number of `time_unit`. Rows may be in any order."""

    time_unit: TimeUnit = "s"
    """What a time column of numbers counts. A timestamp column knows its own unit."""

    channels: tuple[str, ...] = Field(min_length=1)
    """Columns of numbers, one per channel."""

    length: int | str
    """Samples of a window, or their duration: 256 or "10s" (ns, us, ms, s, min, h)."""

    stride: int | str | None = None
    """From the start of a window to that of the next, likewise. Default: `length`, so that none overlap."""

    gap: Literal["split", "fill", "error"] = "split"
    """What a hole in an entity's samples means: windows end before it and begin anew after it; or straight lines
    fill it, if it misses at most `fill_at_most` samples; or the job stops."""

    gap_periods: float = Field(default=1.5, gt=1)
    """Samples further apart than this many sample periods have a hole between them."""

    fill_at_most: int = Field(default=10, ge=1)
    """Most samples in a row that `fill` makes up, also for those that are null or NaN. A longer hole splits."""

    duplicates: Literal["error", "first", "mean"] = "error"
    """Samples of one entity at one time stop the job, or the first in the table is taken, or their mean."""

    partial: Literal["drop", "keep"] = "drop"
    """What is done with samples after an entity's last whole window: nothing, or they make a shorter one."""

    min_samples: int = Field(default=1, ge=1)
    """Fewest samples of such a shorter window."""

    folder: str | None = None
    """Where windows are kept between runs. Default: `_lakebed/windows` in the sink's folder."""

    @field_validator("length", "stride")
    @classmethod
    def _is_a_length(cls, value: int | str | None) -> int | str | None:
        if isinstance(value, str) and value.strip().isdecimal():
            value = int(value)
        if isinstance(value, int) and value < 1:
            raise ValueError("must be at least 1 sample")
        if isinstance(value, str) and _DURATION.fullmatch(value) is None:
            raise ValueError(f"{value!r} is neither a number of samples nor a duration such as 10s or 500ms")
        return value

    @field_validator("folder")
    @classmethod
    def _one_spelling(cls, folder: str | None) -> str | None:
        return None if folder is None else normal_uri(folder)

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = (*self.entity, self.time, *self.channels)
        if len(set(names)) != len(names):
            raise ValueError("a column is named twice among entity, time and channels")
        taken = [name for name in self.entity if name in (WINDOW_SERIES, *WINDOW_COLUMNS)]
        if taken:
            raise ValueError(f"entity column {taken[0]!r} has the name of a column of the result")
        return self

    def samples(self, sampling_rate: float) -> tuple[int, int]:
        """Return length and stride in samples; raises ValueError when a duration is no whole number of them."""
        length = _samples("length", self.length, sampling_rate)
        return length, length if self.stride is None else _samples("stride", self.stride, sampling_rate)

    @property
    def read(self) -> tuple[str, ...]:
        """Columns of the table of samples that must be read."""
        return (*self.entity, self.time, *self.channels)


def _samples(name: str, value: int | str, sampling_rate: float) -> int:
    if isinstance(value, int):
        return value
    match = _DURATION.fullmatch(value)
    assert match is not None, "checked when it was read"
    exact = Fraction(match[1]) * _SECONDS[match[2]] * Fraction(sampling_rate)
    whole = round(exact)
    if whole < 1 or abs(exact - whole) > _TOLERANCE:
        raise ValueError(
            f"{name}: {value} is {float(exact):.6g} samples at {sampling_rate:g} per second, not a whole number"
        )
    return whole


def columns_of_windows(columns: Any, entity: Any) -> Any:
    """Return a job's `columns` with what windows make of them: their series, keyed by entity, start and end kept.

    Values as they stand in a file, not checked yet; what says something else is left for the checks to refuse.
    """
    given = dict(columns) if isinstance(columns, dict) else {}
    if not isinstance(columns, dict | None) or not isinstance(entity, list | tuple):
        return columns
    if not (given.get("series") or given.get("channels")):
        given["series"] = WINDOW_SERIES
    given["keys"] = given.get("keys") or list(entity)
    given["keep"] = given.get("keep") or list(WINDOW_COLUMNS)
    return given
