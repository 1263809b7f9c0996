"""What the embedding job costs over the encoder alone: rows/s of each, on the same rows and cores.

    python -m benchmarks.embed_job --json FILE

`efficiency_text` and `efficiency_signals` are rows/s of `lakebed embed` (read from Delta, embed, commit to Delta;
start-up apart) over rows/s of the same encoder called in this process with all cores. The two sides run in turn;
the figures are medians. Texts are real questions to a bank where that data set lies in ../shared/data, else
paragraphs of Python's own documentation; signals are windows of real motion recordings that come with aeon.
"""

import csv
import shutil
import statistics
import tempfile
import time
from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import pyarrow as pa
from deltalake import write_deltalake

from benchmarks.machine import arguments, report
from lakebed.cli.app import quiet_libraries
from lakebed.jobs.embed import run_embed
from lakebed.jobs.report import EmbedReport
from lakebed.platform.cluster import connected
from lakebed.platform.config.cluster import ClusterConfig
from lakebed.platform.config.embed import EmbedJob
from lakebed.platform.encoder.load import resolve_model
from lakebed.platform.encoder.protocol import Encoder, encode
from lakebed.platform.items import items_of

BANK = Path(__file__).parents[2] / "shared" / "data" / "text_banking77" / "train.csv"


def texts(rows: int) -> list[str]:
    """Return real texts, repeated with a number so that no two are equal."""
    if BANK.is_file():
        with BANK.open(encoding="utf-8") as file:
            found = [row["text"].strip() for row in csv.DictReader(file)]
    else:
        from pydoc_data.topics import topics

        found = [part.strip() for topic in topics.values() for part in topic.split("\n\n") if part.strip()]
    return [f"{text} {number}" for number, text in enumerate(islice(cycle(found), rows))]


def signals(rows: int) -> list[list[list[float]]]:
    """Return real recordings of 6 channels, shifted in time so that no two are equal."""
    from aeon.datasets import load_basic_motions

    recordings, _ = load_basic_motions(split=None)
    return [
        np.roll(recordings[row % len(recordings)], row // len(recordings), axis=1).tolist() for row in range(rows)
    ]


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


def measure(
    kind: str, values: Sequence[object], model: str, repeats: int, compute: dict[str, object]
) -> dict[str, float]:
    """Run both sides in turn, after one run of each that does not count; returns medians."""
    encoder = resolve_model(model).load("cpu")
    column = {"text" if kind == "text" else "series": "value"}
    alone, jobs = [], []
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "source"
        write_deltalake(source, pa.table({"id": range(len(values)), "value": list(values)}))
        for repeat in range(repeats + 1):
            one = in_process(encoder, values)
            job = as_job(source, column, model, compute)
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


def main() -> None:
    """Measure texts and signals."""
    parser = arguments(__doc__)
    parser.add_argument("--model", default="lakebed-embed")
    parser.add_argument("--text-rows", type=int, default=10_000)
    parser.add_argument("--signal-rows", type=int, default=4_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--actors", type=int, help="encoders at once; default: as the job plans")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch-rows", type=int, default=2048)
    options = parser.parse_args()
    quiet_libraries()
    compute = {"actors": options.actors or "auto", "threads": options.threads, "batch_rows": options.batch_rows}
    with connected(ClusterConfig()):
        figures = {
            **measure("text", texts(options.text_rows), options.model, options.repeats, compute),
            **measure("signals", signals(options.signal_rows), options.model, options.repeats, compute),
        }
    report(figures, options.json)


if __name__ == "__main__":
    main()
