"""Tables by reference: find the format, open for reading, open for writing."""

import pyarrow as pa

from lakebed.platform.config.storage import SinkConfig, TableConfig, TableFormat
from lakebed.platform.errors import TableError, TableNotFoundError
from lakebed.platform.lake.delta import DeltaSink, delta_sink_at, is_delta, open_delta
from lakebed.platform.lake.fragments import Snapshot
from lakebed.platform.lake.parquet import ParquetSink, has_manifest, open_parquet, parquet_sink_at
from lakebed.platform.lake.sink import Owner, Sink
from lakebed.platform.lake.storage import exists, require_store, store_errors


def open_table(table: TableConfig) -> Snapshot:
    """Open a table at its version; raises TableNotFoundError, TableError or UnreachableError."""
    with store_errors(table.uri):
        if not exists(table.uri):
            raise TableNotFoundError(f"{table.uri}: there is no table", hint="check the path")
        delta = is_delta(table.uri) if table.format == "auto" else table.format == "delta"
    return open_delta(table.uri, table.version) if delta else open_parquet(table.uri, table.version)


def open_sink(table: SinkConfig, schema: pa.Schema, owner: Owner) -> Sink:
    """Return the sink of a table; raises when the store does not answer or holds a table of another format."""
    with store_errors(table.uri):
        require_store(table.uri)
        if table.format == "delta":
            _refuse_other_format(table.uri, "parquet", has_manifest(table.uri))
            return DeltaSink(table.uri, schema, owner)
        _refuse_other_format(table.uri, "delta", is_delta(table.uri))
        return ParquetSink(table.uri, schema, owner)


def existing_sink(table: SinkConfig) -> Sink | None:
    """Return the sink of a table, whichever job owns it, or None; raises TableError when no job does."""
    with store_errors(table.uri):
        require_store(table.uri)
        return delta_sink_at(table.uri) if table.format == "delta" else parquet_sink_at(table.uri)


def table_folder(table: SinkConfig) -> str:
    """Return the folder of a table that is written to, where its runs keep their ledgers."""
    return table.uri


def sink_format(uri: str) -> TableFormat | None:
    """Say by what lies in a folder which format of sink it is; None when there is no table."""
    with store_errors(uri):
        require_store(uri)
        if is_delta(uri):
            return "delta"
        return "parquet" if has_manifest(uri) else None


def _refuse_other_format(uri: str, other: str, found: bool) -> None:
    if found:
        raise TableError(
            f"{uri}: a {other} table is there", hint=f"write `format: {other}`, or choose another folder"
        )
