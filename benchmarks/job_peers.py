"""How fast the job is beside what people use instead: a plain Ray Data script, and Daft's embed_text.

All sides read the same Parquet files of real texts and write vectors by the same weights, with as many models at
once as there are cores; start-up is apart on each. A peer gets the batch size of `--peer-batches` that it is
fastest with, found on the whole table; then the sides run in turn, and the figures are medians.
"""

import argparse
import os
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from shutil import rmtree
from tempfile import TemporaryDirectory

from benchmarks.job_command import Ran, embed, ran
from benchmarks.job_rows import write_text_files
from benchmarks.peer_environment import PeerMissingError, environment, variables
from lakebed.platform.encoder.text_tower import TextSpec, weights_folder

FILES = 16
REQUIREMENTS = Path(__file__).with_name("daft_requirements.txt")

Side = Callable[[Path, Path], Ran]
"""Embeds a folder of texts into another."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the size of the table, and what peers may choose from."""
    parser.add_argument("--peer-rows", type=int, default=10_000)
    parser.add_argument("--peer-batches", type=int, nargs="+", default=[64, 256, 1024], metavar="ROWS")
    parser.add_argument("--peer-actors", type=int, default=len(os.sched_getaffinity(0)))


def measure_ray_data(options: argparse.Namespace) -> dict[str, float]:
    """Compare with a plain Ray Data script."""
    command = [sys.executable, "-m", "benchmarks.plain_ray_data", "--actors", str(options.peer_actors)]

    def side(batch_rows: int) -> Side:
        return lambda texts, sink: ran([*command, *_arguments(texts, sink, batch_rows)])

    return _compared("plain_ray_data", side, options)


def measure_daft(options: argparse.Namespace) -> dict[str, float]:
    """Compare with Daft; no figures where it cannot be installed."""
    try:
        python = environment("daft", REQUIREMENTS) / "bin" / "python"
    except PeerMissingError as error:
        print(f"without Daft: {error}")
        return {}
    command = [str(python), "-P", str(Path(__file__).with_name("daft_embed_text.py"))]

    def side(batch_rows: int) -> Side:
        return lambda texts, sink: ran([*command, *_arguments(texts, sink, batch_rows)], variables=variables())

    return _compared("daft", side, options)


def _arguments(texts: Path, sink: Path, batch_rows: int) -> list[str]:
    weights = weights_folder(TextSpec().source)
    named = {"source": texts, "sink": sink, "weights": weights, "batch-rows": batch_rows}
    return [part for name, value in named.items() for part in (f"--{name}", str(value))]


def _compared(name: str, side: Callable[[int], Side], options: argparse.Namespace) -> dict[str, float]:
    def ours(texts: Path, sink: Path) -> Ran:
        return embed(texts, sink, options.model, "--actors", options.peer_actors)

    with TemporaryDirectory(prefix="lakebed-peer-") as folder:
        texts = Path(folder) / "texts"
        write_text_files(texts, options.peer_rows, FILES)
        tried = {rows: _run(f"{name}, batches of {rows}", side(rows), texts) for rows in options.peer_batches}
        best = max(tried, key=lambda rows: tried[rows].per_second)
        pairs = [(_run("lakebed", ours, texts), _run(name, side(best), texts)) for _ in range(options.repeats)]
    return {
        f"vs_{name}": statistics.median(one.per_second / other.per_second for one, other in pairs),
        f"rows_per_second_beside_{name}": statistics.median(one.per_second for one, _ in pairs),
        f"rows_per_second_{name}": statistics.median(other.per_second for _, other in pairs),
        f"startup_seconds_beside_{name}": statistics.median(one.figures["startup_seconds"] for one, _ in pairs),
        f"startup_seconds_{name}": statistics.median(other.figures["startup_seconds"] for _, other in pairs),
        f"batch_rows_{name}": best,
        f"rows_{name}": options.peer_rows,
    }


def _run(name: str, side: Side, texts: Path) -> Ran:
    sink = texts.with_name("sink")
    try:
        run = side(texts, sink)
    finally:
        rmtree(sink, ignore_errors=True)
        rmtree(texts.with_name("sink_quarantine"), ignore_errors=True)
    print(f"peers: {name}, {run.per_second:,.0f} rows/s, {run.figures['startup_seconds']:,.1f} s of start-up")
    return run
