"""Disks that fill up, sources that change, and machines that go while a job runs; then every row is there once."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake
from tests.jobs.plain_readers import JOB_SINKS, WORKER_SINKS, read_plainly, sink_in

from lakebed.jobs.embed import run_embed
from lakebed.jobs.progress import Silent
from lakebed.jobs.report import EmbedReport
from lakebed.platform.config.embed import EmbedJob
from lakebed.platform.config.storage import TableConfig
from lakebed.platform.encoder.fake import FakeEncoder
from lakebed.platform.encoder.protocol import encode
from lakebed.platform.errors import TableError, TableNotFoundError, TooManyBadRowsError
from lakebed.platform.items import items_of
from lakebed.platform.lake.storage import filesystem, inner_path
from lakebed.platform.lake.tables import open_table

Notes = dict[int, str | None]
DISK_MIB: Final = 4


def notes(numbers: range, word: str = "pump") -> Notes:
    return {number: f"{word} {number}" for number in numbers}


def table_of(rows: Notes) -> pa.Table:
    return pa.table({"id": pa.array(rows, pa.int64()), "note": pa.array(rows.values(), pa.string())})


@pytest.fixture(params=JOB_SINKS)
def kind(request: pytest.FixtureRequest) -> str:
    """Format of the sink."""
    kind: str = request.param
    return kind


class Job:
    """A job from `folder/source` to `sink`, and a reader of its result that does not go through lakebed."""

    def __init__(self, folder: Path, kind: str = "delta", sink: Path | None = None) -> None:
        self.source, self.kind, self.sink = folder / "source", kind, sink_in(folder, kind, sink)

    def write(self, rows: Notes, mode: Any = "append") -> None:
        """Write the source as a Delta table, or more of it."""
        write_deltalake(self.source, table_of(rows), mode=mode)

    def run(self, watch: Any = None, **fields: Any) -> EmbedReport:
        values = {
            "source": {"uri": str(self.source)},
            "sink": self.sink,
            "columns": {"keys": ["id"], "text": "note"},
            "model": "fake:16",
            "experiment": None,
            "compute": {"batch_rows": 10, "part_rows": 10, "commit_seconds": 0.001},
            **fields,
        }
        options = {"watch": lambda _: nullcontext(watch)} if watch else {}
        return run_embed(EmbedJob.parse(values, where="job"), **options)

    def rows(self) -> pa.Table | None:
        return read_plainly(self.sink["uri"], self.kind, catalog=self.sink.get("catalog"))

    def ids(self) -> list[int]:
        found = self.rows()
        return sorted(found["id"].to_pylist()) if found else []

    def check(self, wanted: Notes) -> None:
        """Compare the result with what it should be, row by row."""
        found = self.rows()
        assert found is not None
        rows = sorted(found.select(["id", "embedding"]).to_pylist(), key=lambda row: row["id"])
        assert [row["id"] for row in rows] == sorted(wanted)
        expected = encode(FakeEncoder(16), items_of([wanted[row["id"]] for row in rows])).vectors
        np.testing.assert_allclose(np.array([row["embedding"] for row in rows]), expected, atol=1e-6)


class Once(Silent):
    """Watches a run, and does something once when a phase begins, or when so many rows are done."""

    def __init__(self, do: Callable[[], object], phase: str = "", rows: int = 0) -> None:
        self.do, self.phase, self.left = do, phase, rows

    def note(self, phase: str, detail: str = "") -> None:
        if phase == self.phase:
            self._act()

    def advance(self, rows: int, errors: Mapping[str, int]) -> None:
        self.left -= rows
        if not self.phase and self.left <= 0:
            self._act()

    def _act(self) -> None:
        do, self.do = self.do, lambda: None
        do()


def interrupt() -> None:
    raise KeyboardInterrupt


def one_line(error: pytest.ExceptionInfo[Exception]) -> bool:
    return "\n" not in str(error.value)


class Disk:
    """A file system with little room."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"

    def fill(self) -> None:
        """Take all room there is."""
        with self._ballast.open("wb", buffering=0) as file:
            try:
                while file.write(bytes(4096)):
                    pass
            except OSError:
                return

    def make_room(self) -> None:
        self._ballast.unlink()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """Mount a file system of a few MiB; needs the right to."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "tmpfs", str(folder)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode:
        reason = f"no small disk can be mounted here: {mounted.stderr.strip()}"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    yield Disk(folder)
    subprocess.run(["umount", "--lazy", str(folder)], check=True)  # an error may hold the file that it is about


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize("phase", ["embedding", "committing"])
def test_a_full_disk_is_one_line_and_what_was_visible_stays(
    tmp_path: Path, disk: Disk, kind: str, phase: str
) -> None:
    job = Job(tmp_path, kind, disk.folder / "sink")
    job.write(notes(range(40)))
    job.run()
    job.write(notes(range(40, 80)))
    with pytest.raises(TableError, match="No space left on device") as error:
        job.run(watch=Once(disk.fill, phase), compute={"batch_rows": 10})
    assert one_line(error)
    assert job.ids() == list(range(40))
    disk.make_room()
    assert (job.run().embedded, job.run().nothing_new) == (40, True)
    job.check(notes(range(80)))


@pytest.mark.usefixtures("ray_cluster")
def test_a_source_that_was_compacted_after_a_crash_is_gone_on_with(tmp_path: Path, kind: str) -> None:
    job, wanted = Job(tmp_path, kind), notes(range(60))
    for start in range(0, 60, 20):
        job.write({row: wanted[row] for row in range(start, start + 20)})
    with pytest.raises(KeyboardInterrupt):
        job.run(watch=Once(interrupt, rows=30))
    held = len(job.ids())
    assert 0 < held < 60
    DeltaTable(job.source).optimize.compact()
    report = job.run()
    assert (report.held, report.embedded, report.removed) == (held, 60 - held, 0)
    job.check(wanted)


@pytest.mark.usefixtures("ray_cluster")
def test_a_source_that_was_overwritten_after_a_crash_leaves_none_of_its_old_rows(
    tmp_path: Path, kind: str
) -> None:
    job = Job(tmp_path, kind)
    job.write(notes(range(60)))
    with pytest.raises(KeyboardInterrupt):
        job.run(watch=Once(interrupt, rows=30))
    assert 0 < len(job.ids()) < 60
    wanted = {**notes(range(10)), **notes(range(10, 30), "fan"), **notes(range(100, 120))}
    job.write(wanted, mode="overwrite")
    job.run()
    job.check(wanted)
    assert job.run().nothing_new


@pytest.mark.usefixtures("ray_cluster")
def test_a_file_that_is_replaced_while_a_job_runs_is_one_line_and_no_row_of_it_is_there(
    tmp_path: Path, kind: str
) -> None:
    job, wanted = Job(tmp_path, kind), {**notes(range(20)), **notes(range(20, 40), "fan")}
    job.source.mkdir()
    pq.write_table(table_of(notes(range(20))), job.source / "a.parquet")
    pq.write_table(table_of(notes(range(20, 40))), job.source / "b.parquet")

    def replace() -> None:
        pq.write_table(table_of({row: wanted[row] for row in range(20, 40)}), job.source / "b.parquet")

    with pytest.raises(TableError, match=r"b\.parquet: was replaced while it was read") as error:
        job.run(watch=Once(replace, "embedding"))
    assert one_line(error)
    assert not set(job.ids()) & set(range(20, 40))
    job.run()
    job.check(wanted)


@pytest.mark.usefixtures("ray_cluster")
def test_a_source_that_is_vacuumed_while_a_job_runs_is_one_line(tmp_path: Path) -> None:
    job = Job(tmp_path)
    job.write(notes(range(20)))

    def vacuum() -> None:
        job.write(notes(range(10, 30)), mode="overwrite")
        DeltaTable(job.source).vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)

    with pytest.raises(TableNotFoundError, match=r"the file is gone.*was the table vacuumed") as error:
        job.run(watch=Once(vacuum, "embedding"))
    assert one_line(error)
    job.run()
    job.check(notes(range(10, 30)))


@pytest.mark.usefixtures("ray_cluster")
def test_a_version_whose_files_are_gone_is_one_line_when_rows_are_compared(tmp_path: Path) -> None:
    job = Job(tmp_path)
    job.write(notes(range(20)))
    job.run()
    job.write(notes(range(10, 30)), mode="overwrite")
    pinned = {"uri": str(job.source), "version": 1}
    job.write(notes(range(50)), mode="overwrite")
    DeltaTable(job.source).vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)
    with pytest.raises(TableNotFoundError, match="the file is gone") as error:
        job.run(source=pinned)
    assert one_line(error)
    job.check(notes(range(20)))


@pytest.mark.parametrize("in_place", [True, False])
def test_no_row_of_a_replaced_file_is_read_when_it_is_open_already(
    place: Callable[[str], str], in_place: bool
) -> None:
    uri, store = place("source/a.parquet"), filesystem(place(""))

    def write(word: str, to: str) -> None:
        with store.open(inner_path(to), "wb") as file:
            pq.write_table(table_of(notes(range(10, 30), word)), file, row_group_size=10)

    write("pump", uri)
    snapshot = open_table(TableConfig(uri=place("source")))
    rows = snapshot.read(snapshot.fragments[0], ("note",), 10)
    assert next(rows)["note"][0].as_py() == "pump 10"
    write("fans", uri if in_place else place("other"))
    if not in_place:
        store.mv(inner_path(place("other")), inner_path(uri))
    with pytest.raises(TableError, match="was replaced while it was read"):
        next(rows)


def test_a_file_that_is_no_longer_parquet_is_named(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    file = tmp_path / "source" / "a.parquet"
    pq.write_table(table_of(notes(range(10))), file)
    snapshot = open_table(TableConfig(uri=str(tmp_path / "source")))
    file.write_bytes(b"PAR1 and nothing else")
    with pytest.raises(TableError, match=r"a\.parquet: was replaced while it was read"):
        list(snapshot.read(snapshot.fragments[0], ("note",), 10))


@pytest.mark.usefixtures("ray_cluster")
def test_too_many_bad_rows_after_a_commit_say_what_stays_and_mended_ones_are_gone_on_with(
    tmp_path: Path, kind: str
) -> None:
    job = Job(tmp_path, kind)
    job.write(notes(range(40)))
    job.write({**notes(range(40, 50)), **dict.fromkeys(range(50, 80))})
    with pytest.raises(TooManyBadRowsError, match=r"stays, nothing more was; .*run again: it goes on") as error:
        job.run(compute={"batch_rows": 5, "part_rows": 5, "commit_seconds": 0.001, "actors": 1})
    assert one_line(error)
    held = job.ids()
    assert held
    with pytest.raises(TableError, match="holds the result of another job: its columns"):
        job.run(columns={"text": "note", "keys": []})
    job.write(notes(range(80)), mode="overwrite")
    assert job.run().embedded == 80 - len(held)
    job.check(notes(range(80)))


CLUSTER: Final = """
import json, sys
from contextlib import nullcontext
from pathlib import Path
from lakebed.cli.app import quiet_libraries
quiet_libraries()
import ray
from ray.cluster_utils import Cluster
from lakebed.jobs.embed import run_embed
from lakebed.jobs.progress import Silent
from lakebed.platform.config.embed import EmbedJob
from lakebed.platform.encoder.fake import FakeEncoder

class Slow(FakeEncoder):
    def __init__(self):
        super().__init__(16, seconds_per_row=0.01)

class Removes(Silent):
    def advance(self, rows, errors):
        if nodes:
            cluster.remove_node(nodes.pop(), allow_graceful=False)

if __name__ == "__main__":
    node = {"num_cpus": 1, "object_store_memory": 100 * 1024**2}
    noticed_soon = {"health_check_period_ms": 500, "health_check_initial_delay_ms": 500}
    cluster = Cluster(True, head_node_args={**node, "include_dashboard": False, "_system_config": noticed_soon})
    nodes = [cluster.add_node(**node)]
    cluster.add_node(**node)
    ray.init(cluster.address, log_to_driver=False)
    job = EmbedJob.model_validate_json(Path(sys.argv[1]).read_text())
    report = run_embed(job, watch=lambda _: nullcontext(Removes()))
    outcome = {"embedded": report.embedded, "alive": sum(node["Alive"] for node in ray.nodes())}
    Path(sys.argv[1]).with_name("outcome.json").write_text(json.dumps(outcome))
    ray.shutdown()
    cluster.shutdown()
"""


@pytest.mark.parametrize("sink", WORKER_SINKS)
def test_a_node_that_is_removed_costs_the_job_no_row(tmp_path: Path, sink: str) -> None:
    job = Job(tmp_path, sink)
    job.write(notes(range(600)))
    (tmp_path / "removing.py").write_text(CLUSTER)
    values = {
        "source": {"uri": str(job.source)},
        "sink": job.sink,
        "columns": {"keys": ["id"], "text": "note"},
        "model": "removing:Slow",
        "experiment": None,
        "compute": {"batch_rows": 10, "part_rows": 10, "commit_seconds": 0.5},
    }
    (tmp_path / "job.json").write_text(EmbedJob.parse(values, where="job").model_dump_json())
    command = [sys.executable, str(tmp_path / "removing.py"), str(tmp_path / "job.json")]
    path = [str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]  # workers find the model there
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path)}
    driver = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert driver.returncode == 0, driver.stderr
    assert json.loads((tmp_path / "outcome.json").read_text()) == {"embedded": 600, "alive": 2}
    job.check(notes(range(600)))
