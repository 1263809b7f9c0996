"""Windows that no run needs any more, beside real tables: found, listed and removed; what may be needed stays."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import write_deltalake

from lakebed.jobs.cleaning import Leftovers, find_leftovers
from lakebed.jobs.ledger import plan_of_this_process, recorded
from lakebed.jobs.window_cleaning import windows_not_needed
from lakebed.jobs.window_store import KeptWindows, kept_windows, windows_folder
from lakebed.jobs.window_table import windowed_source
from lakebed.platform.config.embed import EmbedJob
from lakebed.platform.lake.fragments import Snapshot, read_all
from lakebed.platform.lake.sink import Commit, Owner, SinkState, mark_of
from lakebed.platform.lake.storage import StoredFile, delta_options, exists, join, read_bytes, replace_file
from lakebed.platform.lake.tables import open_sink, open_table

SCHEMA = pa.schema([("id", pa.int64()), ("lb_model_digest", pa.string())])
NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def spec(folder: str) -> EmbedJob:
    windows = {"entity": ["pump"], "time": "at", "channels": ["x"], "length": 2}
    values: dict[str, Any] = {"source": {"uri": f"{folder}/source"}, "sink": {"uri": f"{folder}/sink"}}
    return EmbedJob.parse({**values, "windows": windows, "sampling_rate": 1, "model": "fake:16"}, where="job")


def add_samples(folder: str) -> None:
    """Two more samples, and with them a version of the source."""
    rows = pa.table({"pump": ["a", "a"], "at": [0, 1], "x": [0.5, 1.5]})
    write_deltalake(f"{folder}/source", rows, mode="overwrite", storage_options=delta_options(f"{folder}/source"))


def cut(job: EmbedJob, later_than: Snapshot | None = None) -> Snapshot:
    """Windows of the newest version; where stores tell only seconds, made again until they are the later ones."""
    found = windowed_source(job, open_table(job.source))
    while later_than and made(found) <= made(later_than):
        manifest = join(found.uri, "windows.json")
        replace_file(manifest, read_bytes(manifest))
    return found


def made(windows: Snapshot) -> datetime:
    folder, _, digest = windows.uri.rpartition("/")
    (at,) = [one.made for one in kept_windows(folder) if one.files[0].path.startswith(digest)]
    assert at is not None
    return at


def finish(job: EmbedJob, version: str) -> None:
    """Bring the table to a version of the source."""
    sink = open_sink(job.sink, SCHEMA, Owner.of({"source": "/a"}))
    writer = sink.writer("r1", "m1")
    rows = pa.table([pa.array([1]), pa.array(["m1"])], schema=SCHEMA)
    sink.commit(sink.open(), Commit("m1", "r1", [writer(rows.select(writer.columns.names))], (), version))


def leave_attempt(windows: Snapshot, name: str = "dead") -> str:
    place = join(windows.uri, name, "part-00000-aa.parquet")
    replace_file(place, b"half a fi")
    return place


def leftovers(job: EmbedJob, older_than: timedelta = timedelta(0)) -> Leftovers:
    *_, found = find_leftovers([job.sink, job.quarantine_table], older_than, datetime.now(UTC))
    return found


def test_outdated_windows_and_dead_attempts_go_and_those_of_the_table_stay(place: Callable[[str], str]) -> None:
    job = spec(place("t"))
    add_samples(place("t"))
    old = cut(job)
    add_samples(place("t"))
    new = cut(job, later_than=old)
    finish(job, new.version)
    dead, of_old = leave_attempt(new), leave_attempt(old)
    found = leftovers(job)
    assert found.uri == windows_folder(job.sink.uri)
    going = [join(found.uri, orphan.path) for orphan in found.orphans]
    parts = [join(old.uri, part.path) for part in old.fragments]
    assert sorted(going) == sorted([dead, of_old, join(old.uri, "windows.json"), *parts])
    found.remove()
    assert (leftovers(job).orphans, [exists(path) for path in going]) == ((), [False] * len(going))
    assert read_all(windowed_source(job, open_table(job.source))).equals(read_all(new))


def test_what_a_dead_first_run_cut_whole_is_kept_for_the_next(tmp_path: Path) -> None:
    job = spec(str(tmp_path))
    add_samples(str(tmp_path))
    windows = cut(job)
    dead = leave_attempt(windows)
    found = leftovers(job)
    assert [join(found.uri, orphan.path) for orphan in found.orphans] == [dead]


def test_windows_that_are_too_new_are_spared(tmp_path: Path) -> None:
    job = spec(str(tmp_path))
    add_samples(str(tmp_path))
    leave_attempt(cut(job))
    found = leftovers(job, timedelta(hours=1))
    assert (found.orphans, found.spared) == ((), 1)


def test_while_a_run_is_at_work_no_windows_go_not_even_of_an_attempt(tmp_path: Path) -> None:
    job = spec(str(tmp_path))
    add_samples(str(tmp_path))
    old = cut(job)
    add_samples(str(tmp_path))
    finish(job, cut(job).version)
    leave_attempt(old)
    fields: dict[str, Any] = {
        "run": "r2", "job": {}, "model": "m", "digest": "m1", "source": "/a", "source_version": "0",
        "source_rows": 2, "rows": 0, "held": 0, "units": 0, "preliminary": True,
        "sink": job.sink, "quarantine": job.quarantine_table,
    }  # fmt: skip
    with recorded(job.sink.uri, plan_of_this_process(**fields), ()):
        while not list(tmp_path.glob("sink/_lakebed/ledger/r2/state.json")):
            threading.Event().wait(0.01)  # between two looks: the ledger has a thread of its own
        found = leftovers(job)
        assert (found.orphans, found.spared) == ((), 3)
    assert len(leftovers(job).orphans) == 3, "the run has ended"


def test_windows_in_a_folder_of_the_users_choice_are_left_alone(tmp_path: Path) -> None:
    job = spec(str(tmp_path))
    assert job.windows is not None
    job = job.model_copy(update={"windows": job.windows.model_copy(update={"folder": str(tmp_path / "shared")})})
    add_samples(str(tmp_path))
    leave_attempt(cut(job))
    finish(job, "0")
    assert leftovers(job).uri == job.quarantine_table.uri, "there is nothing after the tables"


def kept(digest: str, version: str, hour: int) -> KeptWindows:
    at = NOW + timedelta(hours=hour)
    return KeptWindows(
        StoredFile(f"{digest}/windows.json", 9, at), version, (StoredFile(f"{digest}/a/part", 9, at),), ()
    )


@pytest.mark.parametrize(
    ("done", "outdated"),
    [
        ([], set()),
        (["v2"], {"a"}),
        (["v3"], {"a", "b"}),
        (["v1"], set()),
        (["v1", "v3"], {"a", "b"}),
        (["v7"], set()),
    ],
)
def test_windows_are_outdated_by_those_of_a_version_that_is_done(done: list[str], outdated: set[str]) -> None:
    windows = [kept("a", "v1", 1), kept("b", "v2", 2), kept("c", "v3", 3)]
    table = SinkState(True, 1, "1", {version: mark_of(version) for version in done} | {"other": None})
    assert {group[0].path[0] for group in windows_not_needed(windows, table)} == outdated
    assert windows_not_needed(windows, None) == []


def test_each_attempt_stays_or_goes_by_itself() -> None:
    files = tuple(StoredFile(f"a/{name}", 9, NOW) for name in ("one/part-1", "one/part-2", "two/part-1"))
    assert windows_not_needed([KeptWindows(None, None, (), files)], None) == [files[:2], files[2:]]
