"""Tables by reference: find the format, open for reading, open for writing."""

from dataclasses import replace

import pyarrow as pa

from lakebed.platform.config.storage import SinkConfig, TableConfig
from lakebed.platform.errors import TableError, TableNotFoundError
from lakebed.platform.lake.delta import DeltaSink, is_delta, open_delta
from lakebed.platform.lake.fragments import Snapshot
from lakebed.platform.lake.parquet import ParquetSink, has_manifest, open_parquet
from lakebed.platform.lake.sink import Owner, Sink
from lakebed.platform.lake.storage import exists, require_store, store_errors
from lakebed.platform.lake.tensors import plain_schema


def open_table(table: TableConfig) -> Snapshot:
    """Open a table at its version; raises TableNotFoundError, TableError or UnreachableError."""
    with store_errors(table.uri):
        if not exists(table.uri):
            raise TableNotFoundError(f"{table.uri}: there is no table", hint="check the path")
        delta = is_delta(table.uri) if table.format == "auto" else table.format == "delta"
    snapshot = open_delta(table.uri, table.version) if delta else open_parquet(table.uri, table.version)
    return replace(snapshot, schema=plain_schema(snapshot.schema))


def open_sink(table: SinkConfig, schema: pa.Schema, owner: Owner) -> Sink:
    """Return the sink of a table; raises when the store does not answer or holds a table of another format."""
    with store_errors(table.uri):
        require_store(table.uri)
        if table.format == "delta":
            _refuse_other_format(table.uri, "parquet", has_manifest(table.uri))
            return DeltaSink(table.uri, schema, owner)
        _refuse_other_format(table.uri, "delta", is_delta(table.uri))
        return ParquetSink(table.uri, schema, owner)


def _refuse_other_format(uri: str, other: str, found: bool) -> None:
    if found:
        raise TableError(
            f"{uri}: a {other} table is there", hint=f"write `format: {other}`, or choose another folder"
        )
