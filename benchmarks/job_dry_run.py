"""How near a dry run comes to what the job then really takes, on the same rows with the same model.

The dry run's estimate is of embedding; start-up is apart on both sides, reading, writing and committing are in the
job's seconds alone. Each repeat is a dry run and then the job, so that what else the machine does meets both; the
figures are medians of estimate over actual, and 1 is right. Beside it stands what the estimate would be if the
measured encoder had the machine to itself: a dry run of the same job with one encoder, times their number.
"""

import argparse
import statistics
from dataclasses import dataclass
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory
from typing import Any

from deltalake import DeltaTable

from benchmarks.job_command import Ran, embed, embed_command, figures_of
from benchmarks.job_rows import write_texts

FILES = 4


@dataclass(frozen=True)
class Trial:
    """What a dry run said, what one of a single encoder said, and what the job did; `stored` bytes of vectors."""

    estimate: dict[str, Any]
    alone: dict[str, Any]
    run: Ran
    stored: int

    @property
    def estimated_rate(self) -> float:
        """Rows/s as the dry run has them."""
        return _rate(self.estimate)

    @property
    def alone_ratio(self) -> float:
        """Rows/s of as many encoders, had each the machine to itself, over actual rows/s."""
        return _rate(self.alone) * self.estimate["encoders_most"] / self.run.per_second

    @property
    def rate_ratio(self) -> float:
        """Estimated over actual rows/s."""
        return self.estimated_rate / self.run.per_second

    @property
    def bytes_ratio(self) -> float:
        """Estimated over actual bytes."""
        return float(self.estimate["bytes_out"] / self.stored)

    @property
    def is_in_range(self) -> bool:
        """Whether the job's time lies in the range that the dry run gave."""
        seconds = float(self.run.figures["seconds"])
        return bool(self.estimate["seconds_least"] <= seconds <= self.estimate["seconds_most"])


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the size of the table."""
    parser.add_argument("--dry-run-rows", type=int, default=20_000)


def measure(options: argparse.Namespace) -> dict[str, float]:
    """Run a job dry and then for good, over and over."""
    with TemporaryDirectory(prefix="lakebed-dry-run-") as folder:
        source = Path(folder) / "source"
        write_texts(source, options.dry_run_rows, -(-options.dry_run_rows // FILES))
        trials = [_trial(source, options.model) for _ in range(options.repeats)]
    return {
        "dry_run_rate_ratio": statistics.median(trial.rate_ratio for trial in trials),
        "dry_run_alone_rate_ratio": statistics.median(trial.alone_ratio for trial in trials),
        "dry_run_bytes_ratio": statistics.median(trial.bytes_ratio for trial in trials),
        "dry_run_in_range_share": statistics.mean(trial.is_in_range for trial in trials),
        "dry_run_rows_per_second": statistics.median(trial.estimated_rate for trial in trials),
        "dry_run_cpu_share": statistics.median(trial.estimate["cpu_share"] for trial in trials),
        "rows_per_second_after_dry_run": statistics.median(trial.run.per_second for trial in trials),
        "rows_dry_run": options.dry_run_rows,
    }


def _trial(source: Path, model: str) -> Trial:
    sink = source.with_name("sink")
    try:
        estimate, _ = figures_of(embed_command(source, sink, model, "--dry-run"))
        alone, _ = figures_of(embed_command(source, sink, model, "--dry-run", "--actors", "1"))
        run = embed(source, sink, model)
        sizes = DeltaTable(sink).get_add_actions(flatten=True)["size_bytes"].to_pylist()
    finally:
        rmtree(sink, ignore_errors=True)
    trial = Trial(estimate, alone, run, sum(sizes))
    print(
        f"dry run: {trial.estimated_rate:,.0f} rows/s ({_rate(alone):,.0f} of one encoder), "
        f"{estimate['bytes_out']:,} bytes, "
        f"with {estimate['cpu_share']:.0%} of a CPU; the job: {run.per_second:,.0f} rows/s, {trial.stored:,} bytes"
    )
    return trial


def _rate(estimate: dict[str, Any]) -> float:
    return float(estimate["rows"] / estimate["seconds_likely"])
