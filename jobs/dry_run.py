"""What a job will take, before it is run: some of its rows are embedded here, as an encoder of the job would.

Measures what one encoder does to rows, on this machine's device with the job's threads per encoder, beside as many
others as the job will have here; not Ray, not the store. Writes nothing.
"""

import io
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lakebed.jobs.companions import companions
from lakebed.jobs.encoding import RowEmbedder
from lakebed.jobs.estimate import Estimate, Range, Sample, seconds_per_row
from lakebed.jobs.output import vector_array
from lakebed.jobs.plan import Resources, plan_job
from lakebed.jobs.rows import ItemOrError, RowMapping
from lakebed.jobs.sampling import sample
from lakebed.jobs.units import whole_units
from lakebed.platform.cluster import connected, starts_its_own
from lakebed.platform.config.embed import EMBEDDING, ComputeConfig, EmbedJob
from lakebed.platform.encoder.load import Device, Model
from lakebed.platform.encoder.plan import Budget
from lakebed.platform.errors import ConfigError, EmptyTableError
from lakebed.platform.items import Item
from lakebed.platform.lake.filters import RowFilter
from lakebed.platform.lake.fragments import Snapshot
from lakebed.platform.lake.pruning import count_rows, pruned
from lakebed.platform.machine import machine

SECONDS: Final = 8.0
"""About how long rows are embedded for, once the encoder is warm."""

_PLACES: Final = 8
_LEAST_SAMPLES: Final = 3
_ROWS: Final = {"cpu": 64, "cuda": 1024}
"""Most rows of a sample: enough that batches are filled as in the job."""

_FIRST_ROWS: Final = 4
_SAMPLE_SECONDS: Final = SECONDS / _PLACES


def dry_run(
    job: EmbedJob,
    snapshot: Snapshot,
    model: Model,
    dimensions: int,
    encoders: tuple[int, int],
    *,
    held: int = 0,
    dollars_per_hour: float | None = None,
) -> Estimate:
    """Estimate a job whose source, columns and model were found fit.

    It is to run with `encoders`, at least and at most; `held` rows are in its tables already. Raises ConfigError
    for a job on windows, which would have to be cut first, and EmptyTableError when no row that was looked at is
    one of the job's.
    """
    if job.windows:
        raise ConfigError("a dry run cannot tell what windows take before they are cut", hint="run the job itself")
    chosen = RowFilter(job.source.filter) if job.source.filter else None
    rows = count_rows(snapshot, chosen) if chosen else snapshot.rows
    device, lacks = _device(job.compute)
    mapping = RowMapping.of(job)
    tables = _sampled(snapshot, mapping.columns.read, _ROWS[device], chosen)
    first = next(tables, None)
    if first is None:
        raise EmptyTableError(f"{snapshot.uri}: none of the sampled rows satisfies the filter")
    threads = job.compute.threads if device == "cpu" else None
    beside = 1 if threads is None or lacks else _side_by_side(encoders[1], threads)
    trial = Trial(mapping, _embedder(job.compute, model, device, dimensions))
    with (
        _threads(job.compute.threads),
        companions(beside - 1, partial(_embedding_of, first, job, model, dimensions)),
    ):
        trial.run(chain([first], tables))
    one = seconds_per_row(trial.samples, threads).times(max(0, rows - held))
    return Estimate(
        source=snapshot.uri,
        source_version=snapshot.version,
        source_rows=rows,
        held=min(held, rows),
        model=model.reference,
        samples=tuple(trial.samples),
        seconds=None if lacks else _divided(one, encoders, job.compute.gpus),
        encoders=encoders,
        threads=threads,
        row_bytes=trial.row_bytes(),
        max_quarantined=job.max_quarantined,
        dollars_per_hour=dollars_per_hour,
        measured_on=_measured_on(device, job.compute.threads, beside),
        without_time=lacks,
    )


def _divided(one: Range, encoders: tuple[int, int], gpus: float) -> Range:
    """The time of one encoder, divided among several; those that share a GPU may slow each other down."""
    (least, most), share = encoders, min(1.0, gpus) if gpus else 1.0
    return Range(one.least / most, one.likely / most, one.most / (least * share))


def planned_encoders(job: EmbedJob, snapshot: Snapshot) -> tuple[int, int]:
    """How many encoders the job will have, at least and at most.

    Raises ConfigError when it cannot be planned on its cluster, UnreachableError when that does not answer.
    """
    resources = planned_resources(job)
    plan = plan_job(whole_units(snapshot.fragments), job.compute, resources)
    if job.compute.gpus or not starts_its_own(job.cluster):  # a cluster may grow
        return plan.least_actors, plan.actors
    fitting = max(1, int(resources.cpus / plan.actor_cpus))
    return min(plan.least_actors, fitting), min(plan.actors, fitting)


def planned_resources(job: EmbedJob) -> Resources:
    """What the job's cluster has; connects to it unless it is this machine."""
    if starts_its_own(job.cluster):
        cpus = job.cluster.cpus or len(os.sched_getaffinity(0))
        return Resources(cpus, _gpus_here() if job.compute.gpus else 0)
    with connected(job.cluster):
        from lakebed.jobs.pipeline import resources

        return resources()


@dataclass
class Trial:
    """Embeds samples of rows as an encoder of the job does, and counts."""

    mapping: RowMapping
    embedder: RowEmbedder
    samples: list[Sample] = field(default_factory=list)
    _stored: list[pa.Table] = field(default_factory=list)

    def run(self, tables: Iterable[pa.Table]) -> None:
        """Embed samples until time is up."""
        rows, deadline = 0, 0.0
        for table in tables:
            if not rows:
                rows = self._warm_up(table)
                deadline = time.monotonic() + SECONDS
            self._measure(table.slice(0, rows))
            if time.monotonic() > deadline and len(self.samples) >= _LEAST_SAMPLES:
                return

    def row_bytes(self) -> float:
        """Bytes that an embedded row takes in a data file, of the sampled ones that could be embedded."""
        stored = pa.concat_tables(self._stored)
        if not len(stored):
            return 0.0
        coded = [name for name in stored.column_names if name != EMBEDDING]
        written = io.BytesIO()
        compression = {**dict.fromkeys(coded, "zstd"), EMBEDDING: "none"}
        pq.write_table(stored, written, compression=compression, use_dictionary=coded)
        return written.tell() / len(stored)

    def _warm_up(self, table: pa.Table) -> int:
        """Let the encoder compile what it compiles at first use; returns how many rows a sample may have."""
        few = table.slice(0, _FIRST_ROWS)
        self.embedder(self.mapping.items(few))
        began = time.perf_counter()
        self.embedder(self.mapping.items(few))
        seconds = (time.perf_counter() - began) / len(few)
        rows = max(1, int(_SAMPLE_SECONDS / max(seconds, 1e-9)))
        self.embedder(self.mapping.items(table.slice(0, rows)))
        return rows

    def _measure(self, table: pa.Table) -> None:
        began, cpu_began = time.perf_counter(), time.process_time()
        items = self.mapping.items(table)
        found = self.embedder(items)
        keys = [item.content_key() if isinstance(item, Item) else None for item in items]
        seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu_began
        bad = np.zeros(len(table), np.bool_)
        bad[list(found.errors)] = True
        texts = [len(text) for text in map(_text_of, items) if text is not None]
        example = next(iter(found.errors.values()), None)
        self.samples.append(
            Sample(
                rows=len(table),
                seconds=seconds,
                cpu_seconds=cpu_seconds,
                tokens=int(found.tokens[~bad].sum()),
                samples=int(found.samples[~bad].sum()),
                characters=sum(texts),
                texts=len(texts),
                bad=len(found.errors),
                example=f"{example.message} ({example.code})" if example else None,
            )
        )
        columns = {name: table.column(name) for name in self.mapping.columns.copied}
        columns |= {"lb_key": pa.array(keys, pa.string()), EMBEDDING: vector_array(found.vectors, bad)}
        self._stored.append(pa.table(columns).filter(pa.array(~bad)))


def _sampled(snapshot: Snapshot, names: Iterable[str], most: int, chosen: RowFilter | None) -> Iterator[pa.Table]:
    """Samples of at most `most` rows from all over a table, those of them that are `chosen`; none is empty.

    A small table is cut into several, too: their spread is what tells a range.
    """
    most = max(1, min(most, snapshot.rows // _PLACES))
    columns = dict.fromkeys((*names, *(chosen.columns if chosen else ())))
    for found in sample(pruned(snapshot, chosen) if chosen else snapshot, tuple(columns), _PLACES, most):
        table = chosen.kept(found) if chosen else found
        if len(table):
            yield table


def _embedder(compute: ComputeConfig, model: Model, device: Device, dimensions: int) -> RowEmbedder:
    budget = Budget(compute.batch_cost) if compute.batch_cost else Budget()
    return RowEmbedder(model.load(device), dimensions, budget)


def _embedding_of(table: pa.Table, job: EmbedJob, model: Model, dimensions: int) -> Callable[[], object]:
    """What another encoder of the job does meanwhile, in a process of its own."""
    mapping, embedder = RowMapping.of(job), _embedder(job.compute, model, "cpu", dimensions)

    def embed() -> None:
        with _threads(job.compute.threads):
            embedder(mapping.items(table))

    return embed


def _side_by_side(encoders: int, threads: int) -> int:
    """How many of a job's encoders this machine holds, each with CPU threads of its own."""
    return max(1, min(encoders, len(os.sched_getaffinity(0)) // threads))


def _text_of(item: ItemOrError) -> str | None:
    return item.text if isinstance(item, Item) else None


def _device(compute: ComputeConfig) -> tuple[Device, str | None]:
    """The device to measure on, and why its time says nothing of the job's, if it does not."""
    if not compute.gpus:
        return "cpu", None
    if _gpus_here():
        return "cuda", None
    return "cpu", "the job's encoders run on GPUs, and this machine has none; run the dry run where there is one"


def _gpus_here() -> int:
    import torch

    return torch.cuda.device_count()


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Keep torch to an encoder's share of the machine for the length of a block, if anything uses torch."""
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _measured_on(device: str, threads: int, beside: int) -> str:
    here = machine()
    if device == "cuda":
        import torch

        return f"{torch.cuda.get_device_name()} of this machine"
    per_encoder = f"{threads} threads" if threads > 1 else "1 thread"
    encoders = f"{beside} encoders at once" if beside > 1 else "1 encoder"
    return f"this machine's CPU ({here['processor']}, {here['cores']} cores), {encoders}, {per_encoder} each"
