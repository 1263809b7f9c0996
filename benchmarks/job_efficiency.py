"""What the job costs over the encoder alone, on the same rows and cores.

`lakebed embed` reads from Delta, embeds and commits to Delta, start-up apart; beside it the same encoder is called
in this process with all cores. The two sides run in turn; the figures are medians.
"""

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
from deltalake import write_deltalake

from benchmarks.job_rows import signals, texts
from lakebed.jobs.embed import run_embed
from lakebed.jobs.report import EmbedReport
from lakebed.platform.cluster import connected
from lakebed.platform.config.cluster import ClusterConfig
from lakebed.platform.config.embed import EmbedJob
from lakebed.platform.encoder.load import resolve_model
from lakebed.platform.encoder.protocol import Encoder, encode
from lakebed.platform.items import items_of


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the sizes of the two tables, and how the job cuts them up."""
    parser.add_argument("--text-rows", type=int, default=10_000)
    parser.add_argument("--signal-rows", type=int, default=4_000)
    parser.add_argument("--actors", type=int, help="encoders at once; default: as the job plans")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch-rows", type=int, default=2048)


def measure_text(options: argparse.Namespace) -> dict[str, float]:
    """Measure texts."""
    return _measure("text", texts(options.text_rows), options)


def measure_signals(options: argparse.Namespace) -> dict[str, float]:
    """Measure recordings."""
    return _measure("signals", signals(options.signal_rows), options)


def in_process(encoder: Encoder, values: Sequence[object]) -> float:
    """Return rows/s of the encoder alone."""
    began = time.perf_counter()
    encode(encoder, items_of(values))
    return len(values) / (time.perf_counter() - began)


def as_job(source: Path, column: dict[str, str], model: str, compute: dict[str, object]) -> EmbedReport:
    """Run the job once, into a table of its own."""
    sink = source.with_name("sink")
    job = EmbedJob.parse(
        {
            "source": {"uri": str(source)},
            "columns": {**column, "keys": ["id"]},
            "sink": {"uri": str(sink)},
            "model": model,
            "compute": compute,
        },
        where="benchmark",
    )
    try:
        return run_embed(job)
    finally:
        shutil.rmtree(sink, ignore_errors=True)


def _measure(kind: str, values: Sequence[object], options: argparse.Namespace) -> dict[str, float]:
    """Run both sides in turn, after one run of each that does not count; returns medians."""
    encoder = resolve_model(options.model).load("cpu")
    column = {"text" if kind == "text" else "series": "value"}
    compute = {"actors": options.actors or "auto", "threads": options.threads, "batch_rows": options.batch_rows}
    alone, jobs = [], []
    with tempfile.TemporaryDirectory() as folder, connected(ClusterConfig()):
        source = Path(folder) / "source"
        write_deltalake(source, pa.table({"id": range(len(values)), "value": list(values)}))
        for repeat in range(options.repeats + 1):
            one = in_process(encoder, values)
            job = as_job(source, column, options.model, compute)
            print(f"{kind}: alone {one:,.0f} rows/s, job {job.per_second(job.rows):,.0f} rows/s")
            if repeat:
                alone.append(one)
                jobs.append(job)
    rates = [job.per_second(job.rows) for job in jobs]
    return {
        f"efficiency_{kind}": statistics.median(rate / one for rate, one in zip(rates, alone, strict=True)),
        f"rows_per_second_{kind}": statistics.median(rates),
        f"rows_per_second_alone_{kind}": statistics.median(alone),
        f"startup_seconds_{kind}": statistics.median(job.startup_seconds for job in jobs),
        f"rows_{kind}": len(values),
    }
