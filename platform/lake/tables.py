"""Tables by reference: find the format, open for reading, open for writing."""

from importlib.util import find_spec

import pyarrow as pa

from lakebed.platform.config.iceberg import missing_extra
from lakebed.platform.config.storage import SinkConfig, TableConfig
from lakebed.platform.errors import TableError, TableNotFoundError
from lakebed.platform.lake.delta import DeltaSink, is_delta, open_delta
from lakebed.platform.lake.fragments import Snapshot
from lakebed.platform.lake.parquet import ParquetSink, has_manifest, open_parquet
from lakebed.platform.lake.sink import Owner, Sink
from lakebed.platform.lake.storage import exists, require_store, store_errors


def open_table(table: TableConfig) -> Snapshot:
    """Open a table at its version; raises TableNotFoundError, TableError or UnreachableError."""
    if table.format == "iceberg":
        _require_pyiceberg()
        from lakebed.platform.lake.iceberg import open_iceberg

        return open_iceberg(table.uri, table.catalog, table.version)
    with store_errors(table.uri):
        if not exists(table.uri):
            raise TableNotFoundError(f"{table.uri}: there is no table", hint="check the path")
        delta = is_delta(table.uri) if table.format == "auto" else table.format == "delta"
    return open_delta(table.uri, table.version) if delta else open_parquet(table.uri, table.version)


def open_sink(table: SinkConfig, schema: pa.Schema, owner: Owner) -> Sink:
    """Return the sink of a table; raises when the store does not answer or holds a table of another format."""
    if table.format == "iceberg":
        _require_pyiceberg()
        from lakebed.platform.lake.iceberg_sink import IcebergSink

        return IcebergSink(table.uri, table.catalog, schema, owner)
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


def _require_pyiceberg() -> None:
    if find_spec("pyiceberg") is None:
        raise missing_extra()
