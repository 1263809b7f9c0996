"""The newest version of a table, read not through lakebed: by deltalake, lance and pyiceberg themselves.

A Parquet folder is read by its newest manifest. Faults that whole jobs meet, and that formats hardly differ in,
are tried on Delta and Parquet sinks, those of workers and machines on Delta alone; LAKEBED_FAULTS=all tries all of
them on all four.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import fsspec
import lance
import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable
from pyiceberg.catalog import load_catalog
from pyiceberg.exceptions import NoSuchTableError

SINKS: Final = ("delta", "parquet", "iceberg", "lance")
_ALL: Final = os.environ.get("LAKEBED_FAULTS") == "all"
JOB_SINKS: Final = SINKS if _ALL else SINKS[:2]
WORKER_SINKS: Final = SINKS if _ALL else SINKS[:1]


def sink_in(folder: Path, kind: str, at: Path | None = None) -> dict[str, Any]:
    """Where a job of this format writes to, as its specification says it: `at`, or a place in the folder."""
    sink = at or folder / "sink"
    if kind != "iceberg":
        return {"uri": str(sink), "format": kind}
    catalog = {"type": "sql", "uri": f"sqlite:///{folder}/catalog.db", "warehouse": f"file://{sink}"}
    return {"uri": "iceberg:lake.sink", "format": kind, "catalog": catalog}


def read_plainly(
    uri: str, kind: str, *, catalog: Mapping[str, str] | None = None, endpoint: str | None = None
) -> pa.Table | None:
    """Return all rows; None when there is no table.

    `catalog` is pyiceberg's description of one, by default that of LAKEBED_HOME; `endpoint` is that of S3.
    """
    if kind == "delta":
        return _delta(uri, {"AWS_ENDPOINT_URL": endpoint, "AWS_ALLOW_HTTP": "true"} if endpoint else None)
    if kind == "iceberg":
        options = {"s3.endpoint": endpoint, "s3.region": os.environ["AWS_REGION"]} if endpoint else {}
        return _iceberg(uri.removeprefix("iceberg:"), catalog, options)
    if kind == "lance":
        return _lance(uri, {"aws_endpoint": endpoint, "allow_http": "true"} if endpoint else None)
    return _parquet(uri, {"endpoint_url": endpoint} if endpoint else {})


def _delta(uri: str, options: dict[str, str] | None) -> pa.Table | None:
    there = DeltaTable.is_deltatable(uri, options)
    return DeltaTable(uri, storage_options=options).to_pyarrow_table() if there else None


def _iceberg(name: str, catalog: Mapping[str, str] | None, options: dict[str, str]) -> pa.Table | None:
    known = catalog or {"type": "sql", "uri": f"sqlite:///{os.environ['LAKEBED_HOME']}/iceberg.db"}
    try:
        return load_catalog("lakebed", **known, **options).load_table(name).scan().to_arrow()
    except NoSuchTableError:
        return None


def _lance(uri: str, options: dict[str, str] | None) -> pa.Table | None:
    try:
        return lance.dataset(uri, storage_options=options).to_table()
    except ValueError as error:
        if "was not found" in str(error):
            return None
        raise


def _parquet(uri: str, options: dict[str, Any]) -> pa.Table | None:
    store, folder = fsspec.url_to_fs(uri, use_listings_cache=False, **options)
    manifests = sorted(store.glob(f"{folder}/_lakebed/manifest-*.json"))
    if not manifests:
        return None
    parts = json.loads(store.cat_file(manifests[-1]))["parts"]
    return pa.concat_tables(pq.read_table(store.open(f"{folder}/{part['path']}")) for part in parts)
