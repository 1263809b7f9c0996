"""An S3 store that fails or falls silent while something is committed: nothing is lost, doubled or half there."""

import subprocess
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any, Final

import httpx
import numpy as np
import pyarrow as pa
import pytest
from deltalake import write_deltalake
from tests.jobs.plain_readers import JOB_SINKS, SINKS, read_plainly

from lakebed.jobs.embed import run_embed
from lakebed.platform.config.embed import EmbedJob
from lakebed.platform.config.storage import SinkConfig, TableConfig, TableFormat
from lakebed.platform.encoder.fake import FakeEncoder
from lakebed.platform.encoder.protocol import encode
from lakebed.platform.errors import CommitError, TableError, UnreachableError
from lakebed.platform.items import items_of
from lakebed.platform.lake.sink import Commit, Owner, Sink
from lakebed.platform.lake.tables import open_sink, open_table

ALWAYS: Final = 1000
METADATA_OF: Final = {"delta": "_delta_log", "parquet": "_lakebed", "iceberg": "/metadata/", "lance": "_versions/"}
COMMIT_OF: Final = {
    "delta": r"_delta_log/\d+",
    "parquet": r"_lakebed/manifest-\d+",
    "iceberg": r"/metadata/\d+-[^/]+\.metadata\.json",
    "lance": r"/_versions/",
}
LATER_COMMIT_OF: Final = {
    "delta": r"_delta_log/\d+3\.json",
    "parquet": r"_lakebed/manifest-\d+3\.json",
    "iceberg": "/metadata/00002-",
    "lance": f"/_versions/{2**64 - 1 - 3}",
}
FAILS_ONCE: Final = [
    *product(SINKS, ["error"], ["before", "after"]),
    *product(["delta", "parquet"], ["silence"], ["before", "after"]),
    ("lance", "silence", "before"),
]
FAILS_FOR_GOOD: Final = [*product(SINKS, ["error"]), *product(["delta", "parquet"], ["silence"])]
SCHEMA: Final = pa.schema([("id", pa.int64()), ("lb_model_digest", pa.string())])


class Store:
    """The S3 server of the session, behind something that fails what it is told to."""

    def __init__(self, address: str, bucket: Any, folder: Path) -> None:
        self.address, self.bucket = address, bucket
        database, warehouse = f"sqlite:///{folder}/catalog.db", bucket.uri("warehouse")
        self._catalog = {"type": "sql", "uri": database, "warehouse": warehouse}

    def fail(self, **rule: object) -> None:
        """Fail requests from now on; none without a rule."""
        httpx.post(f"{self.address}/-/fail", json=rule).raise_for_status()

    def fail_commits(self, kind: str, how: str, when: str, times: int) -> None:
        self.fail(method="PUT", path=COMMIT_OF[kind], how=how, when=when, times=times)

    @property
    def failed(self) -> int:
        """How many requests failed since the rule was set."""
        return int(httpx.get(f"{self.address}/-/failed").text)

    def table(self, name: str, kind: TableFormat) -> SinkConfig:
        """A table in this store; the catalog of one that needs it is a file."""
        if kind == "iceberg":
            return SinkConfig(uri=f"iceberg:lake.{name}", catalog=self._catalog)
        return SinkConfig(uri=self.bucket.uri(name), format=kind)

    def read(self, name: str, kind: TableFormat) -> pa.Table | None:
        """A table's newest version, not through lakebed and not through what fails; None when there is none."""
        uri = self.table(name, kind).uri
        return read_plainly(uri, kind, catalog=self._catalog, endpoint=self.bucket.endpoint)


@pytest.fixture
def store(s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """Point the AWS variables at a server that forwards to the session's, and can be told to fail.

    It is a process of its own, as delta-rs holds the interpreter while it waits.
    """
    command = [sys.executable, str(Path(__file__).with_name("failing_store.py")), s3.endpoint]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout
        address = server.stdout.readline().strip()
        for variable, value in {"ENDPOINT_URL": address, "MAX_ATTEMPTS": "2"}.items():
            monkeypatch.setenv(f"AWS_{variable}", value)
        monkeypatch.setenv("LAKEBED_S3_TIMEOUT", "1")
        yield Store(address, s3, tmp_path)
        server.terminate()


@pytest.fixture(params=SINKS)
def kind(request: pytest.FixtureRequest) -> TableFormat:
    kind: TableFormat = request.param
    return kind


def sink_of(store: Store, kind: TableFormat) -> Sink:
    return open_sink(store.table("t", kind), SCHEMA, Owner("o", {"source": "/a"}))


def commit_of(sink: Sink, row: int) -> Commit:
    writer = sink.writer(f"run{row}", "m")
    rows = pa.table({"id": [row], "lb_model_digest": ["m"]}, schema=SCHEMA)
    return Commit("m", f"run{row}", [writer(rows.select(writer.columns.names))])


def ids(store: Store, kind: str) -> list[int]:
    table = store.read("t", kind)
    return sorted(table["id"].to_pylist()) if table else []


@pytest.mark.parametrize(("kind", "how", "when"), FAILS_ONCE)
def test_a_commit_is_there_once_when_the_store_fails_once(
    store: Store, kind: TableFormat, how: str, when: str
) -> None:
    sink = sink_of(store, kind)
    state = sink.open()
    for row in (0, 1):  # the commit that makes the table, and one upon it
        ours = commit_of(sink, row)
        store.fail_commits(kind, how, when, times=1)
        state = sink.commit(state, ours)
        assert (store.failed, state.sequence) == (1, row + 1)
        assert ids(store, kind) == list(range(row + 1))


@pytest.mark.parametrize(("kind", "how"), FAILS_FOR_GOOD)
def test_a_commit_that_the_store_never_takes_is_one_line_and_changes_nothing(
    store: Store, kind: TableFormat, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    sink = sink_of(store, kind)
    state = sink.open()
    for row in (0, 1):
        ours = commit_of(sink, row)
        store.fail_commits(kind, how, "before", ALWAYS)
        with pytest.raises(CommitError, match=r"does not answer|answers with a server error") as error:
            sink.commit(state, ours)
        assert "\n" not in str(error.value)
        assert ids(store, kind) == list(range(row))
        store.fail()
        state = sink.commit(state, ours)


def test_a_store_that_is_gone_after_a_commit_leaves_open_whether_it_is_there(
    store: Store, kind: TableFormat, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    sink = sink_of(store, kind)
    state = sink.commit(sink.open(), commit_of(sink, 0))
    ours = commit_of(sink, 1)
    store.fail(method=".*", path=METADATA_OF[kind], how="error", when="after", times=ALWAYS, since="PUT")
    with pytest.raises(UnreachableError, match="whether the last commit is there is not known") as error:
        sink.commit(state, ours)
    assert "\n" not in str(error.value)
    store.fail()
    landed = kind != "iceberg"  # its catalog, which is no part of the store, was not asked
    assert ids(store, kind) == list(range(1 + landed))
    assert sink.open().sequence == 1 + landed


def test_wrong_credentials_are_one_line_before_any_work(store: Store) -> None:
    store.fail(method="GET|HEAD|PUT", path="/", how="denied", when="before", times=ALWAYS)
    with pytest.raises(TableError, match="access is denied") as error:
        open_table(TableConfig(uri=store.bucket.uri("t")))
    assert "\n" not in str(error.value)
    with pytest.raises(TableError, match="access is denied"):
        sink_of(store, "delta").open()


def source_in(folder: Path) -> dict[int, str]:
    notes = {row: f"a pump {row}" for row in range(200)}
    write_deltalake(folder / "source", pa.table({"id": list(notes), "note": list(notes.values())}))
    return notes


@pytest.mark.usefixtures("ray_cluster")
@pytest.mark.parametrize("kind", JOB_SINKS)
def test_a_job_goes_on_from_its_last_commit_when_the_store_answers_again(
    store: Store, kind: TableFormat, tmp_path: Path
) -> None:
    notes = source_in(tmp_path)
    values = {
        "source": {"uri": str(tmp_path / "source")},
        "sink": store.table("sink", kind),
        "columns": {"keys": ["id"], "text": "note"},
        "model": "fake:16",
        "experiment": None,
        "compute": {"batch_rows": 25, "part_rows": 25, "commit_seconds": 0.001},
    }
    job = EmbedJob.parse(values, where="job")
    store.fail(method="PUT", path=LATER_COMMIT_OF[kind], how="error", when="before", times=ALWAYS)
    with pytest.raises(CommitError, match="server error"):
        run_embed(job)
    held = store.read("sink", kind)
    assert held is not None
    assert 0 < len(held) < len(notes)
    store.fail_commits(kind, "silence", "after", times=1)
    report = run_embed(job)
    assert (report.held, report.embedded, store.failed) == (len(held), len(notes) - len(held), 1)
    found = store.read("sink", kind)
    assert found is not None
    rows = sorted(found.select(["id", "embedding"]).to_pylist(), key=lambda row: row["id"])
    assert [row["id"] for row in rows] == sorted(notes)
    expected = encode(FakeEncoder(16), items_of([notes[row["id"]] for row in rows])).vectors
    np.testing.assert_allclose(np.array([row["embedding"] for row in rows]), expected, atol=1e-6)
