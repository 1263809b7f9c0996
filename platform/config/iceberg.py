"""How an Iceberg table is named: `iceberg:NAMESPACE.TABLE` and a catalog. Opens neither.

A job is written to files, to MLflow and to the cluster, so no secret may stand in it: pyiceberg reads those from
`~/.pyiceberg.yaml` and from the environment.
"""

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from lakebed.platform.errors import ConfigError

DEFAULT_CATALOG: Final = "lakebed"

_SCHEME: Final = "iceberg:"
_SECRET: Final = re.compile(
    r"secret|password|credential|authorization|account-key|connection-string|\bsas\b|(^|[.-])token$", re.IGNORECASE
)


def is_iceberg(uri: str) -> bool:
    """Whether a URI names a table in a catalog, not a folder."""
    return uri.lower().startswith(_SCHEME)


def iceberg_uri(uri: str) -> str:
    """Return one spelling per table; raises ValueError."""
    name = uri[len(_SCHEME) :]
    parts = name.split(".")
    if len(parts) < 2 or not all(parts) or re.search(r"[/\s]", name):
        raise ValueError(f"{uri}: write iceberg:NAMESPACE.TABLE")
    return f"{_SCHEME}{name}"


def identifier(uri: str) -> tuple[str, ...]:
    """Return the levels of the namespace and the table's name."""
    return tuple(uri.removeprefix(_SCHEME).split("."))


def refuse_secrets(properties: Mapping[str, str]) -> None:
    """Raise ValueError when a catalog's properties hold a secret."""
    secret = [name for name in properties if _SECRET.search(name)]
    if urlsplit(properties.get("uri", "")).password:
        secret.append("uri")
    if secret:
        name = properties.get("name", DEFAULT_CATALOG)
        variable = f"PYICEBERG_CATALOG__{name}__{secret[0]}".replace(".", "__").replace("-", "_").upper()
        raise ValueError(
            f"`{secret[0]}` holds a secret, and a job is no place for one: "
            f"set {variable}, or name a catalog of ~/.pyiceberg.yaml"
        )


def missing_extra() -> ConfigError:
    """Return the error for a machine without pyiceberg."""
    return ConfigError("Iceberg tables need pyiceberg", hint='pip install "lakebed[iceberg]"')
