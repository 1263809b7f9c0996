"""Runs in MLflow: parameters, metrics, data sets, tables and figures; a run that fails is FAILED, never FINISHED.

Only the process that drives the work writes here, never a Ray task: SQLite takes one writer, and a server would be
asked a thousand times. Does not know what is measured.
"""

import json
import math
import os
import socket
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from lakebed.platform.errors import ConfigError, LakebedError
from lakebed.platform.mlflow_store import MlflowStore, quoted

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_HOST: Final = "lakebed.host"
_PID: Final = "lakebed.pid"
_PARAMS_PER_CALL: Final = 100
_METRICS_PER_CALL: Final = 1000
_SYSTEM_SECONDS: Final = 5


@dataclass(frozen=True)
class DatasetRef:
    """What identifies data that was used: `digest` is at most 36 characters, `source` says where it came from."""

    name: str
    digest: str
    source: str
    rows: int
    version: str = ""


@dataclass(frozen=True)
class RunRecord:
    """A run that was logged before, as read back."""

    id: str
    name: str
    started: datetime
    tags: Mapping[str, str]
    params: Mapping[str, str]
    metrics: Mapping[str, float]


class Run:
    """An MLflow run being written; `Tracking.run` makes it and ends it."""

    def __init__(self, store: MlflowStore, run_id: str) -> None:
        self._store = store
        self.id = run_id

    def params(self, values: Mapping[str, Any]) -> None:
        """Log parameters; a value that is not text is logged as JSON."""
        from mlflow.entities import Param

        entities = [Param(key, _text(value)) for key, value in values.items()]
        with self._store.translated():
            for start in range(0, len(entities), _PARAMS_PER_CALL):
                self._store.client.log_batch(self.id, params=entities[start : start + _PARAMS_PER_CALL])

    def metrics(
        self,
        values: Mapping[str, float],
        step: int | None = None,
        *,
        dataset: DatasetRef | None = None,
        model_id: str | None = None,
    ) -> None:
        """Log numbers, at best linked to the data set and the logged model that they speak of.

        Raises ConfigError for a value that is not finite: a chart of it would show a gap and a comparison nothing.
        """
        from mlflow.entities import Metric

        bad = [key for key, value in values.items() if not math.isfinite(value)]
        if bad:
            raise ConfigError(f"metric {bad[0]!r} is {values[bad[0]]}, not a finite number")
        now = int(time.time() * 1000)
        link = (model_id, dataset.name if dataset else None, dataset.digest if dataset else None, self.id)
        entities = [Metric(key, float(value), now, step or 0, *link) for key, value in values.items()]
        with self._store.translated():
            for start in range(0, len(entities), _METRICS_PER_CALL):
                self._store.client.log_batch(self.id, metrics=entities[start : start + _METRICS_PER_CALL])

    def tags(self, values: Mapping[str, str]) -> None:
        """Set tags of the run."""
        from mlflow.entities import RunTag

        with self._store.translated():
            self._store.client.log_batch(self.id, tags=[RunTag(key, value) for key, value in values.items()])

    def dataset(self, data: DatasetRef, context: str) -> None:
        """Name data as an input of the run; `context` is its role, such as `evaluation`."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        entity = Dataset(
            data.name,
            data.digest,
            "lakebed",
            json.dumps({"uri": data.source, "version": data.version}),
            profile=json.dumps({"num_rows": data.rows}),
        )
        with self._store.translated():
            self._store.client.log_inputs(
                self.id, [DatasetInput(entity, [InputTag("mlflow.data.context", context)])]
            )

    def model(self, model_id: str) -> None:
        """Name a logged model as an input of the run."""
        from mlflow.entities import LoggedModelInput

        with self._store.translated():
            self._store.client.log_inputs(self.id, models=[LoggedModelInput(model_id)])

    def figure(self, figure: "Figure", name: str) -> None:
        """Store a matplotlib figure as an image; `name` ends in .png or .svg and may hold folders."""
        self._file(name, lambda path: figure.savefig(path, dpi=110, bbox_inches="tight"))

    @contextmanager
    def system_metrics(self) -> Iterator[None]:
        """Log how busy this machine is while a block runs: processors, memory, disk, network, NVIDIA GPUs."""
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        monitor: Any = SystemMetricsMonitor(  # type: ignore[no-untyped-call]
            self.id, sampling_interval=_SYSTEM_SECONDS, tracking_uri=self._store.client.tracking_uri
        )
        monitor.start()
        try:
            yield
        finally:
            monitor.finish()

    def table(self, table: pa.Table, name: str) -> None:
        """Store an Arrow table as Parquet; `name` ends in .parquet."""
        self._file(name, lambda path: pq.write_table(table, path, compression="zstd"))

    def text(self, text: str, name: str) -> None:
        """Store text as a file: JSON, Markdown or HTML, shown by MLflow's own pages."""
        self._file(name, lambda path: path.write_text(text, encoding="utf-8"))

    def artifact(self, path: Path, folder: str | None = None) -> None:
        """Store a file, or a folder's content, under `folder` of the run's artifacts."""
        upload = self._store.client.log_artifacts if path.is_dir() else self._store.client.log_artifact
        with self._store.translated():
            upload(self.id, str(path), folder)

    def _file(self, name: str, write: Any) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / Path(name).name
            write(path)
            self.artifact(path, str(Path(name).parent) if "/" in name else None)


class Tracking:
    """The runs of one MLflow server or SQLite database. Making one costs nothing and reaches nothing."""

    def __init__(self, uri: str) -> None:
        self._store = MlflowStore(uri)

    def check(self) -> None:
        """Raise UnreachableError now, rather than after the work that is to be logged."""
        assert self._store.client

    @contextmanager
    def run(self, experiment: str, name: str, tags: Mapping[str, str] | None = None) -> Iterator[Run]:
        """Make a run and end it: FINISHED when the block ends, FAILED by an exception, KILLED by Ctrl-C.

        A run whose process was killed outright is found still RUNNING by the next run on the same host in the same
        experiment, which ends it as FAILED.
        """
        experiment_id = self._store.experiment(experiment)
        self._end_orphans(experiment_id)
        own = {_HOST: socket.gethostname(), _PID: str(os.getpid())}
        with self._store.translated():
            created = self._store.client.create_run(experiment_id, run_name=name, tags={**(tags or {}), **own})
        run_id = str(created.info.run_id)
        try:
            yield Run(self._store, run_id)
        except BaseException as error:
            with suppress(LakebedError):  # the first error matters; a run nobody ends is never FINISHED either
                self._end(run_id, "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED")
            raise
        self._end(run_id, "FINISHED")

    def latest(self, experiment: str, tags: Mapping[str, str]) -> RunRecord | None:
        """The newest FINISHED run with these tags; None when there is none."""
        found = self.finished(experiment, tags, limit=1)
        return found[0] if found else None

    def finished(self, experiment: str, tags: Mapping[str, str], limit: int = 1000) -> list[RunRecord]:
        """FINISHED runs with these tags, newest first."""
        where = [f"tags.`{key}` = {quoted(value)}" for key, value in tags.items()]
        return self._search(experiment, " and ".join([*where, "attributes.status = 'FINISHED'"]), limit)

    def find(self, tags: Mapping[str, str]) -> RunRecord | None:
        """The newest run with these tags in any experiment, however it stands; None when there is none."""
        if self._store.is_empty:
            return None
        where = " and ".join(f"tags.`{key}` = {quoted(value)}" for key, value in tags.items())
        with self._store.translated():
            experiments = [found.experiment_id for found in self._store.client.search_experiments()]
            runs = self._store.client.search_runs(
                experiments, where, max_results=1, order_by=["attributes.start_time DESC"]
            )
        return _record(runs[0]) if runs else None

    def add(self, run_id: str, metrics: Mapping[str, float]) -> None:
        """Add metrics to a run that has ended, such as a training run's scores on a suite."""
        Run(self._store, run_id).metrics(metrics)

    def table(self, run_id: str, name: str) -> pa.Table:
        """Read back a table that `Run.table` stored."""
        with tempfile.TemporaryDirectory() as folder:
            with self._store.translated():
                path = self._store.client.download_artifacts(run_id, name, folder)
            return pq.read_table(path, memory_map=False)

    def artifacts(self, run_id: str) -> list[str]:
        """Paths of what a run has stored at the top of its artifacts."""
        with self._store.translated():
            return [str(file.path) for file in self._store.client.list_artifacts(run_id)]

    def _search(self, experiment: str, where: str, limit: int) -> list[RunRecord]:
        if self._store.is_empty:
            return []
        with self._store.translated():
            found = self._store.client.get_experiment_by_name(experiment)
            if found is None:
                return []
            runs = self._store.client.search_runs(
                [found.experiment_id], where, max_results=limit, order_by=["attributes.start_time DESC"]
            )
        return [_record(run) for run in runs]

    def _end(self, run_id: str, status: str) -> None:
        with self._store.translated():
            self._store.client.set_terminated(run_id, status)

    def _end_orphans(self, experiment_id: str) -> None:
        where = f"attributes.status = 'RUNNING' and tags.`{_HOST}` = {quoted(socket.gethostname())}"
        with self._store.translated():
            running = self._store.client.search_runs([experiment_id], where)
        for run in running:
            if not _is_alive(int(run.data.tags[_PID])):
                self._end(str(run.info.run_id), "FAILED")


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)  # signal 0 asks only
    except ProcessLookupError:
        return False
    except PermissionError:  # alive, and another user's
        return True
    return True


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)


def _record(run: Any) -> RunRecord:
    started = datetime.fromtimestamp(run.info.start_time / 1000, UTC)
    data = run.data
    return RunRecord(
        run.info.run_id, run.info.run_name, started, dict(data.tags), dict(data.params), dict(data.metrics)
    )
