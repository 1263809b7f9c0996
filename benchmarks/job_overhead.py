"""What a job costs besides embedding: planning and commits of a large run, and runs that have nothing to do."""

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

from deltalake import DeltaTable

from benchmarks.job_command import Ran, embed
from benchmarks.job_rows import write_texts

MODEL = "fake:64"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the size of the table."""
    parser.add_argument("--overhead-rows", type=int, default=1_000_000)


def measure(options: argparse.Namespace) -> dict[str, float]:
    """Embed a table, embed it again, and once more after its files were rewritten with the same rows."""
    with TemporaryDirectory(prefix="lakebed-overhead-") as folder:
        source, sink = Path(folder) / "source", Path(folder) / "sink"
        write_texts(source, options.overhead_rows, -(-options.overhead_rows // 4))
        first = _said("first run", embed(source, sink, MODEL))
        again = _said("nothing new", embed(source, sink, MODEL))
        DeltaTable(source).optimize.compact()
        rewritten = _said("files rewritten", embed(source, sink, MODEL))
    overhead = first.figures["planning_seconds"] + first.figures["committing_seconds"]
    return {
        "overhead_share": overhead / first.seconds,
        "planning_seconds": first.figures["planning_seconds"],
        "committing_seconds": first.figures["committing_seconds"],
        "overhead_startup_seconds": first.figures["startup_seconds"],
        "overhead_rows": first.rows,
        "overhead_rows_per_second": first.per_second,
        "noop_seconds": again.waited,
        "noop_rows": again.rows,
        "rewritten_seconds": rewritten.waited,
        "rewritten_rows": rewritten.rows,
    }


def _said(name: str, run: Ran) -> Ran:
    figures = run.figures
    print(
        f"overhead, {name}: {run.rows:,} rows embedded, {run.waited:,.1f} s in all, "
        f"{figures['planning_seconds']:,.1f} s planning, {figures['committing_seconds']:,.1f} s committing"
    )
    return run
