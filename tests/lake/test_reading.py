from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest
from deltalake import DeltaTable, write_deltalake

from lakebed.platform.config.base import Config
from lakebed.platform.config.storage import TableConfig, normal_uri
from lakebed.platform.errors import (
    ColumnNotFoundError,
    ConfigError,
    TableError,
    TableNotFoundError,
    UnreachableError,
)
from lakebed.platform.lake.fragments import DataFile, fragments_of, read_all
from lakebed.platform.lake.storage import delta_options, filesystem, inner_path
from lakebed.platform.lake.tables import open_table

ROWS = pa.table({"id": [1, 2, 3], "note": ["a", "b", None]})
Place = Callable[[str], str]


def write_parquet(uri: str, table: pa.Table) -> None:
    with filesystem(uri).open(inner_path(uri), "wb") as file:
        pq.write_table(table, file)


def opened(uri: str, version: int | None = None) -> pa.Table:
    return read_all(open_table(TableConfig(uri=uri, version=version)))


def test_a_delta_table_is_found_and_read_whole(place: Place) -> None:
    write_deltalake(place("t"), ROWS, storage_options=delta_options(place("t")))
    assert opened(place("t")).equals(ROWS)


def test_a_delta_version_stays_pinned_while_the_table_grows(place: Place) -> None:
    for _ in range(2):
        write_deltalake(place("t"), ROWS, mode="append", storage_options=delta_options(place("t")))
    assert len(opened(place("t"), version=0)) == 3
    assert len(opened(place("t"))) == 6


def test_a_folder_of_parquet_files_is_read_in_the_order_of_their_names(place: Place) -> None:
    write_parquet(place("t/b.parquet"), ROWS.slice(2))
    write_parquet(place("t/a.parquet"), ROWS.slice(0, 2))
    assert opened(place("t")).equals(ROWS)


def test_one_parquet_file_is_a_table(place: Place) -> None:
    write_parquet(place("t.parquet"), ROWS)
    assert opened(place("t.parquet")).equals(ROWS)


def test_a_parquet_folder_changes_its_version_when_a_file_comes(tmp_path: Path) -> None:
    write_parquet(str(tmp_path / "t/a.parquet"), ROWS)
    before = open_table(TableConfig(uri=str(tmp_path / "t"))).version
    assert open_table(TableConfig(uri=str(tmp_path / "t"))).version == before
    write_parquet(str(tmp_path / "t/b.parquet"), ROWS)
    assert open_table(TableConfig(uri=str(tmp_path / "t"))).version != before


def test_partition_columns_of_delta_and_of_folders_are_read(tmp_path: Path) -> None:
    rows = pa.table({"id": [1, 2, 3], "site": ["x y", "é/2", "z"]})
    write_deltalake(tmp_path / "delta", rows, partition_by=["site"])
    pads.write_dataset(
        rows, tmp_path / "hive", format="parquet", partitioning=["site"], partitioning_flavor="hive"
    )
    for name in ("delta", "hive"):
        assert opened(str(tmp_path / name)).select(["id", "site"]).sort_by("id").equals(rows)


def test_a_file_written_before_a_column_was_added_gives_nulls(tmp_path: Path) -> None:
    write_deltalake(tmp_path / "t", pa.table({"id": [1]}))
    write_deltalake(tmp_path / "t", pa.table({"id": [2], "note": ["b"]}), mode="append", schema_mode="merge")
    assert opened(str(tmp_path / "t")).sort_by("id")["note"].to_pylist() == [None, "b"]


def test_dictionary_columns_are_read_as_their_values(tmp_path: Path) -> None:
    write_parquet(str(tmp_path / "t.parquet"), pa.table({"note": pa.array(["a", "b"]).dictionary_encode()}))
    assert opened(str(tmp_path / "t.parquet"))["note"].type == pa.string()


def test_large_files_are_cut_at_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = pa.table({"id": list(range(1000))})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=100)
    size = (tmp_path / "a.parquet").stat().st_size
    monkeypatch.setattr("lakebed.platform.lake.fragments.FRAGMENT_BYTES", size // 4)
    fragments = fragments_of(str(tmp_path), [DataFile("a.parquet", size)])
    assert len(fragments) > 1
    assert [fragment.start for fragment in fragments] == [
        sum(before.rows for before in fragments[:place]) for place in range(len(fragments))
    ]
    snapshot = open_table(TableConfig(uri=str(tmp_path)))
    assert read_all(snapshot).equals(table)


def test_a_table_that_may_have_deletion_vectors_and_has_none_is_read(tmp_path: Path) -> None:
    write_deltalake(tmp_path / "t", ROWS)
    DeltaTable(tmp_path / "t").alter.set_table_properties({"delta.enableDeletionVectors": "true"})
    assert opened(str(tmp_path / "t")).equals(ROWS)


def test_a_missing_table_is_named(place: Place) -> None:
    with pytest.raises(TableNotFoundError, match="nowhere: there is no table"):
        open_table(TableConfig(uri=place("nowhere")))


def test_a_missing_version_names_the_newest(tmp_path: Path) -> None:
    write_deltalake(tmp_path / "t", ROWS)
    with pytest.raises(TableNotFoundError, match=r"no version 7 \(the newest is 0\)"):
        open_table(TableConfig(uri=str(tmp_path / "t"), version=7))


def test_a_plain_folder_has_no_versions(tmp_path: Path) -> None:
    write_parquet(str(tmp_path / "t/a.parquet"), ROWS)
    with pytest.raises(TableError, match="has no versions"):
        open_table(TableConfig(uri=str(tmp_path / "t"), version=0))


def test_a_missing_column_lists_those_there_are(tmp_path: Path) -> None:
    write_parquet(str(tmp_path / "t.parquet"), ROWS)
    with pytest.raises(ColumnNotFoundError, match=r"no column 'text' \(columns are id, note\)"):
        open_table(TableConfig(uri=str(tmp_path / "t.parquet"))).field("text")


def test_a_file_that_is_no_parquet_is_named(tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    (tmp_path / "t/a.parquet").write_text("hello")
    with pytest.raises(TableError, match=r"(?s)t: .*a\.parquet"):
        open_table(TableConfig(uri=str(tmp_path / "t")))


@pytest.mark.parametrize("port", [None, 4033], ids=["free", "with the digits of 403"])
def test_a_store_that_does_not_answer_is_unreachable(
    monkeypatch: pytest.MonkeyPatch, free_port: int, port: int | None
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port or free_port}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(UnreachableError, match="does not answer"):
        open_table(TableConfig(uri="s3://bucket/t"))


@pytest.mark.parametrize(
    ("written", "normal"),
    [
        ("s3a://bucket/a/", "s3://bucket/a"),
        ("S3://bucket/a", "s3://bucket/a"),
        ("file:///tmp/a%20b/", "/tmp/a b"),
        ("/tmp/a/", "/tmp/a"),
    ],
)
def test_a_place_has_one_spelling(written: str, normal: str) -> None:
    assert normal_uri(written) == normal


@pytest.mark.parametrize("uri", ["", "gs://bucket/a", "s3:///a", "https://host/a"])
def test_a_wrong_uri_is_a_configuration_error(uri: str) -> None:
    with pytest.raises(ConfigError, match="job: uri: "):
        TableConfig.parse({"uri": uri}, where="job")


def test_an_unknown_field_is_named() -> None:
    assert issubclass(TableConfig, Config)
    with pytest.raises(ConfigError, match="job: verion: unknown field"):
        TableConfig.parse({"uri": "/t", "verion": 3}, where="job")
