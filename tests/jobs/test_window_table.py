"""Long sensor tables to tables of windows; the windows are compared sample by sample with what they must be."""

import errno
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from deltalake import write_deltalake
from fsspec.implementations.local import LocalFileSystem

from lakebed.jobs import window_table
from lakebed.jobs.encoding import RowEmbedder
from lakebed.jobs.output import result_schema
from lakebed.jobs.rows import RowMapping, check_columns
from lakebed.jobs.window_store import WindowStore
from lakebed.jobs.window_table import buckets_of, check_windows, window_schema, windowed_source
from lakebed.platform.config.embed import EmbedJob
from lakebed.platform.encoder.fake import FakeEncoder
from lakebed.platform.encoder.plan import Budget
from lakebed.platform.encoder.protocol import encode
from lakebed.platform.errors import (
    ColumnNotFoundError,
    ConfigError,
    JobFailedError,
    LakebedError,
    TableError,
)
from lakebed.platform.items import Item
from lakebed.platform.lake.fragments import Snapshot, read_all
from lakebed.platform.lake.sink import Owner
from lakebed.platform.lake.storage import delta_options, names_in
from lakebed.platform.lake.tables import open_sink, open_table

ENTITIES = 5
SAMPLES = 100
START = np.datetime64("2024-01-01", "us")


def sensor_table(entities: int = ENTITIES, samples: int = SAMPLES) -> pa.Table:
    """Ten samples a second of each machine, in no order; 1 has a gap, and 2 has two samples at one time."""
    rows = [(entity, sample) for entity in range(entities) for sample in range(samples)]
    rows = [row for row in rows if row not in {(1, 40), (1, 41)}] + [(2, 7)]
    machine, sample = np.random.default_rng(0).permutation(rows).T
    return pa.table(
        {
            "site": [f"site {number % 2}" for number in machine],
            "machine": machine,
            "at": pa.array(START + (sample * 100_000).astype("timedelta64[us]")),
            "x": pa.array(machine + sample / 1000, pa.float32()),
            "y": pa.array(-sample, pa.int16()),
        }
    )


def spec(folder: Any, windows: dict[str, Any] | None = None, **fields: Any) -> EmbedJob:
    section = {
        "entity": ["site", "machine"],
        "time": "at",
        "channels": ["x", "y"],
        "length": "2s",
        "stride": 15,
        "duplicates": "first",
        **(windows or {}),
    }
    values = {"source": {"uri": f"{folder}/source"}, "sink": {"uri": f"{folder}/sink"}, "model": "fake:16"}
    values |= {"sampling_rate": 10, "experiment": None, "windows": section, **fields}
    return EmbedJob.parse(values, where="job")


def write_source(folder: Any, table: pa.Table, files: int = 3) -> None:
    size = -(-len(table) // files)
    for first in range(0, len(table), size):
        options = delta_options(f"{folder}/source")
        write_deltalake(f"{folder}/source", table.slice(first, size), mode="append", storage_options=options)


def cut(job: EmbedJob) -> Snapshot:
    return windowed_source(job, open_table(job.source))


def expected_windows() -> set[tuple[int, int, int]]:
    """Machine, first sample, last sample."""
    runs = {machine: [(0, SAMPLES)] for machine in range(ENTITIES)} | {1: [(0, 40), (42, SAMPLES)]}
    return {
        (machine, start, start + 19)
        for machine, spans in runs.items()
        for first, stop in spans
        for start in range(first, stop - 19, 15)
    }


def places_of(rows: pa.Table) -> list[tuple[int, int, int]]:
    """Machine, first sample and last sample of windows."""
    bounds = (rows[name].to_numpy() - START for name in ("lb_window_start", "lb_window_end"))
    starts, ends = ((bound // np.timedelta64(100, "ms")).tolist() for bound in bounds)
    return list(zip(rows["machine"].to_pylist(), starts, ends, strict=True))


def window_of(machine: int, first: int, last: int) -> list[list[float]]:
    samples = np.arange(first, last + 1)
    return [np.float32(machine + samples / 1000).astype(float).tolist(), (-samples).astype(float).tolist()]


def assert_windows(table: pa.Table, expected: set[tuple[int, int, int]]) -> None:
    found = places_of(table)
    assert len(set(found)) == len(found), "a window is doubled"
    assert set(found) == expected
    assert table["lb_window"].to_pylist() == [window_of(*place) for place in found]
    assert table["lb_window_samples"].to_pylist() == [last - first + 1 for _, first, last in found]
    assert table["site"].to_pylist() == [f"site {machine % 2}" for machine, _, _ in found]


@pytest.mark.usefixtures("ray_cluster")
def test_a_long_table_becomes_a_table_of_windows_on_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(window_table, "BUCKET_BYTES", 10_000)
    write_source(tmp_path, sensor_table())
    job = spec(tmp_path)
    windows = cut(job)
    assert_windows(read_all(windows), expected_windows())
    assert windows.version == open_table(job.source).version
    assert len(windows.fragments) > 1, "several buckets"
    assert windows.schema == window_schema(open_table(job.source), job)


@pytest.mark.usefixtures("ray_cluster")
def test_a_sample_without_a_time_fails_on_workers_is_named_by_its_place_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(window_table, "BUCKET_BYTES", 50)
    job = spec_of_numbers(tmp_path, [0.0, 1.0, None, 3.0, 4.0])
    with pytest.raises(
        TableError, match=r"b\.parquet, row 1: a sample's t is null .*source.filter: t is not null"
    ):
        cut(job)
    assert not (tmp_path / "sink").exists()


def test_samples_without_a_time_may_be_filtered_out(tmp_path: Path) -> None:
    job = spec_of_numbers(
        tmp_path, [0.0, 1.0, None, 3.0, 4.0, float("nan")], filter="t is not null and t is not nan"
    )
    assert read_all(cut(job))["lb_window_start"].to_pylist() == [0.0, 3.0]


def test_a_table_of_one_bucket_needs_no_workers(place: Callable[[str], str]) -> None:
    write_source(place("t"), sensor_table())
    windows = cut(spec(place("t")))
    assert_windows(read_all(windows), expected_windows())
    assert len(windows.fragments) == 1


def test_windows_that_are_there_are_used_again_and_a_newer_source_gets_its_own(tmp_path: Path) -> None:
    write_source(tmp_path, sensor_table())
    first, again = cut(spec(tmp_path)), cut(spec(tmp_path))
    assert [part.path for part in first.fragments] == [part.path for part in again.fragments]
    lone = sensor_table().slice(0, 1).set_column(1, "machine", pa.array([77]))
    write_deltalake(tmp_path / "source", lone, mode="append")
    newer = cut(spec(tmp_path))
    assert newer.uri != first.uri
    assert read_all(newer).equals(read_all(first)), "one sample of another machine is no window"
    assert len(names_in(str(tmp_path / "sink/_lakebed/windows"))) == 2


def test_only_rows_that_satisfy_the_filter_are_cut_and_its_column_is_not_copied(tmp_path: Path) -> None:
    table = sensor_table().append_column("quality", pa.array([1] * len(sensor_table())))
    write_source(tmp_path, table)
    windows = cut(spec(tmp_path, source={"uri": f"{tmp_path}/source", "filter": "machine >= 2 and quality = 1"}))
    assert_windows(read_all(windows), {window for window in expected_windows() if window[0] >= 2})
    assert "quality" not in windows.schema.names


def test_windows_become_items_by_the_mapping_of_the_job(tmp_path: Path) -> None:
    write_source(tmp_path, sensor_table())
    job = spec(tmp_path, columns={"text": "machine {machine}"})
    windows = cut(job)
    check_columns(windows, job.columns)
    rows = read_all(windows)
    items = RowMapping.of(job).items(rows)
    series = [np.array(window) for window in rows["lb_window"].to_pylist()]
    texts = [f"machine {machine}" for machine in rows["machine"].to_pylist()]
    wanted = [Item.of(text, values, None, 10) for text, values in zip(texts, series, strict=True)]
    assert [item.content_key() for item in items if isinstance(item, Item)] == [
        item.content_key() for item in wanted
    ]
    assert job.columns.copied == ("site", "machine", "lb_window_start", "lb_window_end", "lb_window_samples")


def test_windows_in_its_folder_do_not_keep_a_sink_from_being_made(tmp_path: Path) -> None:
    write_source(tmp_path, sensor_table())
    for kind in ("delta", "parquet"):
        job = spec(tmp_path, sink={"uri": f"{tmp_path}/{kind}", "format": kind})
        sink = open_sink(job.sink, result_schema(cut(job), job.columns, 16), Owner(job.key, {}))
        assert not sink.open().exists


def test_windows_are_embedded_from_end_to_end(tmp_path: Path) -> None:
    """From the specification to vectors, part by part: check, cut, check the columns, read, map, embed."""
    write_source(tmp_path, sensor_table())
    job = spec(tmp_path)
    source = open_table(job.source)
    check_windows(source, job)
    windows = windowed_source(job, source)
    check_columns(windows, job.columns)
    embed = RowEmbedder(FakeEncoder(16), 16, Budget())
    seen = set()
    for fragment in windows.fragments:
        for rows in windows.read(fragment, job.columns.read, 7):
            embedded = embed(RowMapping.of(job).items(rows))
            assert not embedded.errors
            items = [Item.of(None, window_of(*place), None, 10) for place in places_of(rows)]
            assert np.allclose(embedded.vectors, encode(FakeEncoder(16), items, 16).vectors, atol=1e-6)
            seen |= set(places_of(rows))
    assert seen == expected_windows()


def spec_of_numbers(folder: Path, times: list[float | None], **source: str) -> EmbedJob:
    """Samples a second apart in two plain Parquet files."""
    table = pa.table({"id": ["a"] * len(times), "t": pa.array(times, pa.float64()), "x": [1.0] * len(times)})
    (folder / "source").mkdir()
    pq.write_table(table.slice(0, 1), folder / "source/a.parquet")
    pq.write_table(table.slice(1), folder / "source/b.parquet")
    columns = {"entity": ["id"], "time": "t", "channels": ["x"], "length": 2, "stride": 2}
    return spec(folder, columns, sampling_rate=1, source={"uri": f"{folder}/source", **source})


@pytest.mark.parametrize(
    ("windows", "fields", "fault"),
    [
        (
            {"duplicates": "error"},
            {},
            r"site site 0, machine 2: there are two samples at 2024-01-01T00:00:00.700000 .*duplicates",
        ),
        (
            {"gap": "error"},
            {},
            r"site site 1, machine 1: there is a gap between 2024-01-01T00:00:03.9.* and .*windows.gap",
        ),
        ({"length": 500}, {}, "no window of 500 samples: the longest run without a gap has 100 of 499"),
        ({}, {"sampling_rate": 1, "max_quarantined": 1}, "machine 0: samples are 0.1 s apart, .* should be 1 s"),
        ({}, {"source": "machine > 99"}, "no window of 20 samples: .* has 0 of 0"),
    ],
)
def test_what_cannot_be_cut_is_one_line_and_leaves_nothing(
    tmp_path: Path, windows: dict[str, Any], fields: dict[str, Any], fault: str
) -> None:
    write_source(tmp_path, sensor_table())
    if "source" in fields:
        fields = {"source": {"uri": f"{tmp_path}/source", "filter": fields["source"]}}
    with pytest.raises(TableError, match=fault) as error:
        cut(spec(tmp_path, windows, **fields))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "sink").exists() or names_in(str(tmp_path / "sink")) == ["_lakebed"]


def test_of_two_attempts_at_once_one_is_kept_and_the_other_removed(tmp_path: Path) -> None:
    write_source(tmp_path, sensor_table(1, 30), files=1)
    job = spec(tmp_path)
    source = open_table(job.source)
    schema, store = window_schema(source, job), WindowStore.of(job, source)
    for name in ("one", "two"):
        (Path(store.uri) / name).mkdir(parents=True)
        with store.attempt() as folder:
            assert folder
            store.publish(name, [], schema)
    assert names_in(store.uri) == ["one", "windows.json"]
    assert json.loads((Path(store.uri) / "windows.json").read_text())["identity"]["source"] == job.source.uri


def test_what_ended_an_attempt_is_told_although_it_cannot_be_cleaned_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_source(tmp_path, sensor_table(1, 30), files=1)
    job = spec(tmp_path)
    store = WindowStore.of(job, open_table(job.source))

    def fail() -> None:
        with store.attempt() as folder:
            (Path(store.uri) / folder).mkdir(parents=True)
            raise JobFailedError("the workers failed")

    def broken(*_: object, **__: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(LocalFileSystem, "rm", broken)
    with pytest.raises(JobFailedError, match="the workers failed"):
        fail()
    assert "`lakebed jobs clean` removes what is left" in caplog.text


def test_other_windows_of_the_same_source_lie_elsewhere(tmp_path: Path) -> None:
    write_source(tmp_path, sensor_table(1, 30), files=1)
    source = open_table(spec(tmp_path).source)
    jobs = [spec(tmp_path), spec(tmp_path, {"stride": 1}), spec(tmp_path, sampling_rate=20)]
    jobs.append(spec(tmp_path, source={"uri": f"{tmp_path}/source", "filter": "x > 0"}))
    assert len({WindowStore.of(job, source).uri for job in jobs}) == len(jobs)
    assert len({job.key for job in jobs}) == len(jobs)
    elsewhere = spec(tmp_path, {"folder": f"{tmp_path}/w"})
    assert elsewhere.key == spec(tmp_path).key
    assert WindowStore.of(elsewhere, source).uri.startswith(f"{tmp_path}/w/")


def test_an_entity_is_in_one_bucket_whatever_block_it_is_read_in() -> None:
    names, numbers = [f"m{row % 50}" for row in range(1000)], [row % 3 for row in range(1000)]
    whole = buckets_of([pa.chunked_array([names]), pa.chunked_array([numbers])], 16)
    part = buckets_of([pa.chunked_array([names[500:]]), pa.chunked_array([numbers[500:]])], 16)
    assert part.tolist() == whole[500:].tolist()
    assert len(set(whole.tolist())) == 16
    buckets: dict[tuple[str, int], set[int]] = {}
    for key, bucket in zip(zip(names, numbers, strict=True), whole.tolist(), strict=True):
        buckets.setdefault(key, set()).add(bucket)
    assert {len(found) for found in buckets.values()} == {1}


@pytest.mark.parametrize(
    ("windows", "error", "fault"),
    [
        ({"entity": ["nope"]}, ColumnNotFoundError, "no column 'nope'"),
        ({"time": "site", "entity": ["machine"]}, TableError, "'site' holds string, not timestamps or numbers"),
        ({"channels": ["site"], "entity": ["machine"]}, TableError, "'site' holds string, not numbers"),
        ({"entity": ["x"], "channels": ["y"]}, TableError, "'x' holds float, not text, integers"),
    ],
)
def test_columns_that_cannot_be_cut_are_named_before_work(
    tmp_path: Path, windows: dict[str, Any], error: type[LakebedError], fault: str
) -> None:
    write_source(tmp_path, sensor_table(1, 30), files=1)
    job = spec(tmp_path, windows)
    with pytest.raises(error, match=fault):
        check_windows(open_table(job.source), job)


@pytest.mark.parametrize(
    ("windows", "fields", "fault"),
    [
        ({"length": 0}, {}, "at least 1 sample"),
        ({"length": "soon"}, {}, "neither a number of samples nor a duration"),
        ({"length": "10ms"}, {}, "length: 10ms is 0.1 samples at 10 per second"),
        ({"stride": "150ms"}, {}, "stride: 150ms is 1.5 samples"),
        ({"time": "x"}, {}, "named twice"),
        ({"entity": []}, {}, "windows.entity"),
        ({"gap_periods": 1}, {}, "windows.gap_periods"),
        ({}, {"sampling_rate": None}, "windows need the sampling_rate"),
        ({}, {"columns": {"series": "s"}}, "windows.channels"),
        ({}, {"columns": {"text": "{x}"}}, "a window has no 'x', only its entity columns"),
        ({}, {"columns": {"keep": ["y"]}}, "a window has no other columns"),
        ({}, {"channel_names": ["x"]}, "1 channel_names for 2 windows.channels"),
    ],
)
def test_a_specification_that_makes_no_sense_is_one_line(
    windows: dict[str, Any], fields: dict[str, Any], fault: str
) -> None:
    with pytest.raises(ConfigError, match=fault) as error:
        spec("/t", windows, **fields)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("length", "samples"), [(256, 256), ("256", 256), ("2s", 20), ("500ms", 5), ("1min", 600), ("0.5h", 18_000)]
)
def test_a_length_is_samples_or_a_duration(length: Any, samples: int) -> None:
    job = spec("/t", {"length": length, "stride": None})
    assert job.windows is not None
    assert job.windows.samples(10) == (samples, samples)


def test_a_job_with_windows_survives_being_written_and_read() -> None:
    job = spec("/t", columns={"text": "{machine}"})
    assert EmbedJob.parse(json.loads(job.model_dump_json()), where="job") == job
