"""Iceberg catalogs, through pyiceberg: the default one, and any other by configuration; tables in them by name.

Metadata is read and written by pyiceberg, data files by lakebed, through one file system: both reach S3 by the AWS
variables, as patiently and as often. A catalog that names another endpoint is refused.
"""

from typing import Final

from fsspec import AbstractFileSystem
from pyiceberg.catalog import Catalog, load_catalog
from pyiceberg.exceptions import NoSuchNamespaceError, NoSuchTableError, NotInstalledError
from pyiceberg.io.fsspec import FsspecFileIO
from pyiceberg.table import Table
from pyiceberg.typedef import Properties

from lakebed.platform.config.environment import read_environment
from lakebed.platform.config.iceberg import DEFAULT_CATALOG, identifier
from lakebed.platform.errors import ConfigError, TableError
from lakebed.platform.lake.storage import filesystem, s3_settings

CatalogConfig = str | dict[str, str] | None

_ENDPOINT: Final = "s3.endpoint"


class MetadataFiles(FsspecFileIO):
    """How pyiceberg reaches files: those in S3 by the file system that data files are reached by.

    Its own knows neither LAKEBED_S3_TIMEOUT nor how often lakebed asks again.
    """

    def __init__(self, properties: Properties) -> None:
        super().__init__(properties)
        self._scheme_to_fs.update(dict.fromkeys(("s3", "s3a", "s3n"), _s3))


def _s3(_: Properties) -> AbstractFileSystem:
    return filesystem("s3://")


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
    return {"py-io-impl": f"{MetadataFiles.__module__}.{MetadataFiles.__name__}", **known}


def _check_endpoint(catalog: Catalog) -> None:
    theirs, ours = catalog.properties.get(_ENDPOINT), s3_settings().endpoint_url
    if theirs and theirs.rstrip("/") != (ours or "").rstrip("/"):
        raise ConfigError(
            f"catalog {catalog.name!r}: its {_ENDPOINT} is {theirs}, data files are reached at {ours or 'AWS'}",
            hint=f"set AWS_ENDPOINT_URL={theirs}",
        )
