"""What a job will take, told from samples of its rows: ranges, not promises. Arithmetic, and how it is printed."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Final

from rich.console import Console
from rich.markup import escape
from scipy import stats

from lakebed.jobs.standing import span

_CONFIDENCE: Final = 0.95
QUIET: Final = 0.85
"""Share of its CPU that an encoder has on a machine with nothing else to do."""


@dataclass(frozen=True)
class Range:
    """A quantity as it probably is, and bounds that it probably lies in."""

    least: float
    likely: float
    most: float

    def times(self, factor: float) -> "Range":
        """The range of a multiple."""
        return Range(self.least * factor, self.likely * factor, self.most * factor)


@dataclass(frozen=True)
class Sample:
    """What neighbouring rows took one encoder, in seconds that passed and of CPU; `characters` are of texts."""

    rows: int
    seconds: float
    cpu_seconds: float
    tokens: int
    samples: int
    characters: int
    texts: int
    bad: int
    example: str | None


def per_row(values: Sequence[float], rows: Sequence[int]) -> Range:
    """A quantity per row, of samples of so many rows, with a 95 % interval from the spread between samples.

    The ratio estimator of cluster sampling (Cochran, Sampling Techniques, 1977, section 6.3) with Student's t. One
    sample has no spread: its range is a point.
    """
    ratio, count = sum(values) / sum(rows), len(values)
    if count < 2:
        return Range(ratio, ratio, ratio)
    spread = sum((value - ratio * size) ** 2 for value, size in zip(values, rows, strict=True)) / (count - 1)
    margin = float(stats.t.ppf((1 + _CONFIDENCE) / 2, count - 1)) * math.sqrt(spread / count) * count / sum(rows)
    least = min(value / size for value, size in zip(values, rows, strict=True))
    return Range(max(ratio - margin, least), ratio, ratio + margin)


def cpu_share_of(samples: Sequence[Sample]) -> float:
    """How much of one CPU thread the encoder used."""
    return min(1.0, sum(one.cpu_seconds for one in samples) / sum(one.seconds for one in samples))


def seconds_per_row(samples: Sequence[Sample], threads: int | None) -> Range:
    """Seconds of one encoder per row; `threads` is None on a GPU.

    When one of one thread had not its CPU to itself, the range reaches from its CPU time to the time that passed.
    """
    rows = [one.rows for one in samples]
    passed = per_row([one.seconds for one in samples], rows)
    if threads != 1 or cpu_share_of(samples) >= QUIET:
        return passed
    return replace(passed, least=min(passed.least, per_row([one.cpu_seconds for one in samples], rows).least))


def share_of(part: int, whole: int) -> Range:
    """A share, with the exact interval of Clopper and Pearson (1934)."""
    interval = stats.binomtest(part, whole).proportion_ci(_CONFIDENCE, method="exact")
    return Range(float(interval.low), part / whole, float(interval.high))


@dataclass(frozen=True)
class Estimate:
    """What a job will take. `seconds` is None when this machine has not the device that the job runs on.

    `row_bytes` is what a row takes in the table of vectors. `encoders` run at once, at least and at most, each
    with `threads` CPU threads, which is None when the device is a GPU.
    """

    source: str
    source_version: str
    source_rows: int
    held: int
    model: str
    samples: tuple[Sample, ...]
    seconds: Range | None
    encoders: tuple[int, int]
    threads: int | None
    row_bytes: float
    max_quarantined: float
    dollars_per_hour: float | None
    measured_on: str
    without_time: str | None = None

    @property
    def rows(self) -> int:
        """Rows to embed."""
        return max(0, self.source_rows - self.held)

    @property
    def sampled(self) -> int:
        """Rows that were looked at."""
        return sum(sample.rows for sample in self.samples)

    @property
    def bad(self) -> Range:
        """Share of rows that cannot be embedded."""
        return share_of(sum(sample.bad for sample in self.samples), self.sampled)

    @property
    def cpu_share(self) -> float | None:
        """How much of its one CPU thread the encoder used; None when it has several, or a GPU."""
        return cpu_share_of(self.samples) if self.threads == 1 else None

    @property
    def dollars(self) -> Range | None:
        """What the time costs."""
        if self.seconds is None or self.dollars_per_hour is None:
            return None
        return self.seconds.times(self.dollars_per_hour / 3600)

    @property
    def bytes_out(self) -> int:
        """Size of the new vectors and what is stored beside them."""
        return round(self.row_bytes * self.rows * (1 - self.bad.likely))

    def per_row(self, name: str) -> float:
        """Mean of a count over the sampled rows."""
        total: int = sum(getattr(sample, name) for sample in self.samples)
        return total / self.sampled

    @property
    def characters_per_text(self) -> float:
        """Mean length of the texts; 0 when there are none."""
        texts = sum(sample.texts for sample in self.samples)
        return sum(sample.characters for sample in self.samples) / texts if texts else 0.0

    def as_json(self) -> dict[str, Any]:
        """Everything as one flat object."""
        figures: dict[str, Any] = {
            "source": self.source,
            "source_version": self.source_version,
            "source_rows": self.source_rows,
            "rows_held": self.held,
            "rows": self.rows,
            "sampled_rows": self.sampled,
            "model": self.model,
            "tokens": round(self.per_row("tokens") * self.rows),
            "tokens_per_row": round(self.per_row("tokens"), 2),
            "samples": round(self.per_row("samples") * self.rows),
            "samples_per_row": round(self.per_row("samples"), 2),
            "characters_per_text": round(self.characters_per_text, 2),
            "bytes_out": self.bytes_out,
            "encoders_least": self.encoders[0],
            "encoders_most": self.encoders[1],
            "bad_example": self._example(),
            "dollars_per_hour": self.dollars_per_hour,
            "cpu_share": None if self.cpu_share is None else round(self.cpu_share, 3),
            "machine": self.measured_on,
        }
        for name, range_ in (("seconds", self.seconds), ("dollars", self.dollars), ("bad_share", self.bad)):
            for end in ("least", "likely", "most"):
                figures[f"{name}_{end}"] = None if range_ is None else round(getattr(range_, end), 6)
        return figures

    def show(self, console: Console) -> None:
        """Print it for people."""
        for name, value in self._lines():
            console.print(f"[bold]{name:<11}[/]{escape(value)}", soft_wrap=True)

    def _lines(self) -> list[tuple[str, str]]:
        held = f"; {self.held:,} of {self.source_rows:,} are held already" if self.held else ""
        lines = [
            ("source", f"{self.source}  version {self.source_version}"),
            ("rows", f"{self.rows:,} to embed{held}"),
            ("sampled", f"{self.sampled:,} rows in {len(self.samples)} samples with {self.model}"),
            ("measured on", f" {self.measured_on}{self._contention()}"),
            ("text", self._text()),
            ("signals", self._counted("samples", "numbers")),
            ("bad rows", self._bad()),
            ("time", self._time()),
            ("vectors", f"{_bytes(self.bytes_out)}"),
            ("cost", self._cost()),
        ]
        return [(name, value) for name, value in lines if value]

    def _contention(self) -> str:
        share = self.cpu_share
        if share is None or share >= QUIET:
            return ""
        return f"; it had {share:.0%} of it, as other work ran here or the model waits for something"

    def _text(self) -> str:
        tokens = self._counted("tokens", "tokens")
        return f"{self.characters_per_text:,.0f} characters a text; {tokens}" if tokens else ""

    def _counted(self, name: str, what: str) -> str:
        mean = self.per_row(name)
        return f"{mean:,.1f} {what} a row, {mean * self.rows:,.0f} in all" if mean else ""

    def _bad(self) -> str:
        bad = sum(sample.bad for sample in self.samples)
        share = self.bad
        said = f"{bad:,} of {self.sampled:,} sampled: {share.least:.2%} to {share.most:.2%} of all"
        if not bad:
            return said
        stops = f"; the job stops above {self.max_quarantined:.4g}" if share.likely > self.max_quarantined else ""
        return f"{said}; for example: {self._example()}{stops}"

    def _example(self) -> str | None:
        return next((sample.example for sample in self.samples if sample.example), None)

    def _time(self) -> str:
        if self.seconds is None:
            return f"not known: {self.without_time}"
        least, most = self.encoders
        count = f"{most}" if least == most else f"{least} to {most}"
        like = f"with {count} encoder{'s' if most > 1 else ''} like the measured one"
        return f"{_between(self.seconds)} {like}; start-up, reading and writing come on top"

    def _cost(self) -> str:
        if self.dollars is None or self.dollars_per_hour is None:
            return ""
        return f"${self.dollars.least:,.2f} to ${self.dollars.most:,.2f} at ${self.dollars_per_hour:,.2f} an hour"


def _between(seconds: Range) -> str:
    least, most = (span(timedelta(seconds=math.ceil(end))) for end in (seconds.least, seconds.most))
    return least if least == most else f"{least} to {most}"


def _bytes(count: int) -> str:
    size, units = float(count), iter(("bytes", "KiB", "MiB", "GiB", "TiB"))
    unit = next(units)
    while size >= 1024 and unit != "TiB":
        size, unit = size / 1024, next(units)
    return f"{size:,.0f} {unit}" if unit == "bytes" else f"{size:,.1f} {unit}"
