"""Tables by reference: find the format, open for reading, open for writing."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib.util import find_spec
from typing import Final

import pyarrow as pa

from lakebed.platform.config.iceberg import is_iceberg, missing_extra
from lakebed.platform.config.storage import SinkConfig, TableConfig, TableFormat
from lakebed.platform.errors import ConfigError, TableError, TableNotFoundError
from lakebed.platform.lake.delta import DeltaSink, delta_sink_at, is_delta, open_delta
from lakebed.platform.lake.fragments import Snapshot
from lakebed.platform.lake.parquet import ParquetSink, has_manifest, open_parquet, parquet_sink_at
from lakebed.platform.lake.sink import SLOT_COLUMN, Owner, Sink
from lakebed.platform.lake.storage import exists, join, require_store, store_errors
from lakebed.platform.lake.tensors import plain_schema


def is_lance(uri: str) -> bool:
    """Whether a Lance dataset lies there."""
    return exists(join(uri, "_versions"))


_FOUND: Final[Mapping[TableFormat, Callable[[str], bool]]] = {
    "delta": is_delta,
    "parquet": has_manifest,
    "lance": is_lance,
}


def open_table(table: TableConfig) -> Snapshot:
    """Open a table at its version; raises TableNotFoundError, TableError or UnreachableError."""
    if table.format == "iceberg":
        _require_pyiceberg()
        from lakebed.platform.lake.iceberg import open_iceberg

        return open_iceberg(table.uri, table.catalog, table.version)
    with store_errors(table.uri):
        if not exists(table.uri):
            raise TableNotFoundError(f"{table.uri}: there is no table", hint="check the path")
        kind = _format_at(table.uri) if table.format == "auto" else table.format
    if kind == "lance":
        _require_pylance(table.uri)
        from lakebed.platform.lake.lance import open_lance

        return open_lance(table.uri, table.version)
    snapshot = open_delta(table.uri, table.version) if kind == "delta" else open_parquet(table.uri, table.version)
    return replace(snapshot, schema=plain_schema(snapshot.schema))


def _format_at(uri: str) -> TableFormat:
    """What lies there; anything that is no table of its own is files of Parquet."""
    return next((kind for kind, found in _FOUND.items() if found(uri)), "parquet")


def open_sink(table: SinkConfig, schema: pa.Schema, owner: Owner) -> Sink:
    """Return the sink of a table; raises when the store does not answer or holds a table of another format."""
    if table.format == "iceberg":
        _require_pyiceberg()
        from lakebed.platform.lake.iceberg_sink import IcebergSink

        return IcebergSink(table.uri, table.catalog, schema, owner)
    with store_errors(table.uri):
        require_store(table.uri)
        _refuse_other_formats(table)
        if table.format == "lance":
            _require_pylance(table.uri)
            from lakebed.platform.lake.lance_sink import LanceSink

            return LanceSink(table.uri, schema, owner)
        if table.format == "delta":
            return DeltaSink(table.uri, schema, owner)
        return ParquetSink(table.uri, schema, owner)


def existing_sink(table: SinkConfig) -> Sink | None:
    """Return the sink of a table, whichever job owns it, or None; raises TableError when no job does."""
    if table.format == "iceberg":
        _require_pyiceberg()
        from lakebed.platform.lake.iceberg_sink import iceberg_sink_at

        return iceberg_sink_at(table.uri, table.catalog)
    with store_errors(table.uri):
        require_store(table.uri)
    if table.format == "lance":
        _require_pylance(table.uri)
        from lakebed.platform.lake.lance_sink import lance_sink_at

        return lance_sink_at(table.uri)
    return delta_sink_at(table.uri) if table.format == "delta" else parquet_sink_at(table.uri)


def table_folder(table: SinkConfig) -> str:
    """Return the folder of a table that is written to, where its runs keep their ledgers."""
    if table.format != "iceberg":
        return table.uri
    return open_sink(table, pa.schema([(SLOT_COLUMN, pa.string())]), Owner.of({})).folder


def sink_format(uri: str) -> TableFormat | None:
    """Say by what lies in a folder which format of sink it is; None when there is no table."""
    if is_iceberg(uri):
        return "iceberg"
    with store_errors(uri):
        require_store(uri)
        return next((kind for kind, found in _FOUND.items() if found(uri)), None)


def _refuse_other_formats(table: SinkConfig) -> None:
    for other, found in _FOUND.items():
        if other != table.format and found(table.uri):
            raise TableError(
                f"{table.uri}: a {other} table is there", hint=f"write `format: {other}`, or choose another folder"
            )


def _require_pylance(uri: str) -> None:
    if find_spec("lance") is None:
        raise ConfigError(
            f"{uri}: Lance needs the package pylance, which is not installed", hint="pip install 'lakebed[lance]'"
        )


def _require_pyiceberg() -> None:
    if find_spec("pyiceberg") is None:
        raise missing_extra()
