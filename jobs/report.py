"""What a job did, as figures and as a summary for people."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.markup import escape


@dataclass(frozen=True)
class EmbedReport:
    """The account of one run.

    `startup_seconds` end when the first row is begun; rates leave them out. `planning_seconds` of them went into
    reading what is there, and `committing_seconds` of all into commits and the parts that they exchange.
    """

    run: str
    model: str
    digest: str
    source: str
    source_version: str
    rows: int
    held: int
    embedded: int
    removed: int
    commits: int
    quarantined: Mapping[str, int]
    tokens: int
    samples: int
    startup_seconds: float
    seconds: float
    planning_seconds: float
    committing_seconds: float
    sink: str
    sink_version: str
    quarantine: str
    dimensions: int
    tracking_run: str | None = None
    nothing_new: bool = False

    @property
    def bad(self) -> int:
        """Rows that were quarantined."""
        return sum(self.quarantined.values())

    def per_second(self, count: int) -> float:
        """Return a rate; 0 when nothing ran."""
        return count / self.seconds if self.seconds else 0.0

    def figures(self) -> dict[str, float]:
        """Return the numbers, flat."""
        return {
            "rows": self.rows,
            "held": self.held,
            "removed": self.removed,
            "commits": self.commits,
            "embedded": self.embedded,
            "quarantined": self.bad,
            "tokens": self.tokens,
            "samples": self.samples,
            "startup_seconds": round(self.startup_seconds, 3),
            "seconds": round(self.seconds, 3),
            "planning_seconds": round(self.planning_seconds, 3),
            "committing_seconds": round(self.committing_seconds, 3),
            "rows_per_second": round(self.per_second(self.embedded + self.bad), 2),
            "tokens_per_second": round(self.per_second(self.tokens), 2),
            "samples_per_second": round(self.per_second(self.samples), 2),
        }

    def as_json(self) -> dict[str, Any]:
        """Return the whole account as one flat object."""
        return {
            **self.figures(),
            **{f"quarantined/{code}": count for code, count in sorted(self.quarantined.items())},
            "run": self.run,
            "model": self.model,
            "model_digest": self.digest,
            "dimensions": self.dimensions,
            "source": self.source,
            "source_version": self.source_version,
            "sink": self.sink,
            "sink_version": self.sink_version,
            "quarantine": self.quarantine if self.bad else None,
            "tracking_run": self.tracking_run,
            "nothing_new": self.nothing_new,
        }

    def show(self, console: Console) -> None:
        """Print the summary."""
        if self.nothing_new:
            console.print(
                f"nothing to do: {self.sink} version {self.sink_version} holds version {self.source_version} of "
                f"{self.source} by {self.model} ({self.digest[:12]})"
            )
            return
        for name, value in self._lines():
            console.print(f"[bold]{name:<11}[/]{escape(value)}", soft_wrap=True)

    def _lines(self) -> list[tuple[str, str]]:
        reasons = ", ".join(f"{count:,} {code}" for code, count in sorted(self.quarantined.items()))
        where = f": {reasons}; see {self.quarantine}" if self.bad else ""
        lines = [
            ("run", self.run),
            ("model", f"{self.model}  {self.digest[:12]}  {self.dimensions} dimensions"),
            ("source", f"{self.source}  version {self.source_version}"),
            ("rows", f"{self.rows:,}  {self._told()}, {self.bad:,} quarantined{where}"),
            ("time", f"{self.seconds:,.1f} s  after {self.startup_seconds:,.1f} s of start-up"),
            ("rate", self._rates()),
            ("vectors", f"{self.sink}  version {self.sink_version}"),
        ]
        return [*lines, ("mlflow run", self.tracking_run)] if self.tracking_run else lines

    def _told(self) -> str:
        """What became of the rows that are not quarantined."""
        held = f"{self.held:,} there already, " if self.held else ""
        removed = f", {self.removed:,} removed" if self.removed else ""
        return f"{held}{self.embedded:,} embedded{removed}"

    def _rates(self) -> str:
        rates = [f"{self.per_second(self.embedded + self.bad):,.0f} rows/s"]
        if self.tokens:
            rates.append(f"{self.per_second(self.tokens):,.0f} tokens/s")
        if self.samples:
            rates.append(f"{self.per_second(self.samples):,.0f} samples/s")
        return "  ".join(rates)
