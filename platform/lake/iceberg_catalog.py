"""Iceberg catalogs, through pyiceberg: the default one, and any other by configuration; tables in them by name.

Metadata is read and written by pyiceberg over fsspec, data files by lakebed over fsspec: both reach S3 by the AWS
variables, and a catalog that names another endpoint is refused.
"""

from typing import Final

from pyiceberg.catalog import Catalog, load_catalog
from pyiceberg.exceptions import NoSuchNamespaceError, NoSuchTableError, NotInstalledError
from pyiceberg.table import Table

from lakebed.platform.config.environment import read_environment
from lakebed.platform.config.iceberg import DEFAULT_CATALOG, identifier
from lakebed.platform.errors import ConfigError, TableError
from lakebed.platform.lake.storage import CONNECT_SECONDS, s3_settings

CatalogConfig = str | dict[str, str] | None

_FILE_IO: Final = "pyiceberg.io.fsspec.FsspecFileIO"
_ENDPOINT: Final = "s3.endpoint"


def open_catalog(config: CatalogConfig) -> Catalog:
    """Connect to a catalog; raises ConfigError when pyiceberg cannot tell what it is."""
    name, properties = _named(config)
    try:
        catalog = load_catalog(name, **{**properties, **_storage()})
    except (ValueError, NotInstalledError, ImportError) as error:
        raise ConfigError(
            f"catalog {name!r}: {' '.join(str(error).split())}", hint="name one of ~/.pyiceberg.yaml"
        ) from None
    _check_endpoint(catalog)
    return catalog


def load_table(catalog: Catalog, uri: str) -> Table | None:
    """Load a table as it is now; None when the catalog has none of that name."""
    try:
        return catalog.load_table(identifier(uri))
    except (NoSuchTableError, NoSuchNamespaceError):
        return None


def place_of(uri: str, location: str) -> str:
    """Return what a catalog calls a location as lakebed spells places; raises TableError for other stores.

    A location is taken as it stands: nothing in it is percent-encoded.
    """
    scheme, found, rest = location.partition("://")
    if found and scheme.lower() in ("s3", "s3a", "s3n"):
        return f"s3://{rest}"
    path = rest if found and scheme == "file" else location.removeprefix("file:")
    if not path.startswith("/"):
        raise TableError(f"{uri}: has files at {location}", hint="local files and s3:// are supported")
    return path


def _named(config: CatalogConfig) -> tuple[str, dict[str, str]]:
    if isinstance(config, str):
        return config, {}
    if config is not None:
        properties = dict(config)
        return properties.pop("name", DEFAULT_CATALOG), properties
    home = read_environment().home.absolute()
    home.mkdir(parents=True, exist_ok=True)
    database, warehouse = home / "iceberg.db", home / "iceberg"
    return DEFAULT_CATALOG, {"type": "sql", "uri": f"sqlite:///{database}", "warehouse": f"file://{warehouse}"}


def _storage() -> dict[str, str]:
    """What makes pyiceberg reach the stores as everything else does."""
    settings = s3_settings()
    found = {_ENDPOINT: settings.endpoint_url, "s3.region": settings.region}
    known = {name: value for name, value in found.items() if value}
    return {"py-io-impl": _FILE_IO, "s3.connect-timeout": str(CONNECT_SECONDS), **known}


def _check_endpoint(catalog: Catalog) -> None:
    theirs, ours = catalog.properties.get(_ENDPOINT), s3_settings().endpoint_url
    if theirs and theirs.rstrip("/") != (ours or "").rstrip("/"):
        raise ConfigError(
            f"catalog {catalog.name!r}: its {_ENDPOINT} is {theirs}, data files are reached at {ours or 'AWS'}",
            hint=f"set AWS_ENDPOINT_URL={theirs}",
        )
