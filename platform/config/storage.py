"""Where a table lies: its URI, format and version; and how S3 is reached, from the usual AWS variables.

Knows how a URI is written; does not touch any store.
"""

import re
from pathlib import Path
from typing import Any, Final, Literal, Self
from urllib.parse import unquote, urlsplit

from pydantic import AliasChoices, Field, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from lakebed.platform.config.base import Config
from lakebed.platform.config.iceberg import iceberg_uri, is_iceberg, refuse_secrets

TableFormat = Literal["delta", "parquet", "iceberg", "lance"]

_SCHEME: Final = re.compile(r"^([a-z][a-z0-9+.-]*)://", re.IGNORECASE)
_S3_SCHEMES: Final = frozenset({"s3", "s3a", "s3n"})
_WHOLE_REQUEST: Final = 3  # times what an answer may take to begin


class _Place(Config):
    """What a table to read and a table to write have in common."""

    uri: str
    """Folder of the table: a local path, file:///path or s3://bucket/path; or iceberg:NAMESPACE.TABLE."""

    catalog: str | dict[str, str] | None = None
    """Catalog of an Iceberg table: a name in ~/.pyiceberg.yaml, or pyiceberg's properties of one (`type`, `uri`,
    `warehouse`, …; `name` is its name). Default: a SQLite file under LAKEBED_HOME, its warehouse beside it."""

    @field_validator("uri")
    @classmethod
    def _one_spelling(cls, uri: str) -> str:
        return normal_uri(uri)

    @field_validator("catalog")
    @classmethod
    def _no_secrets(cls, catalog: str | dict[str, str] | None) -> str | dict[str, str] | None:
        if isinstance(catalog, dict):
            refuse_secrets(catalog)
        return catalog

    @model_validator(mode="before")
    @classmethod
    def _format_of_the_uri(cls, values: Any) -> Any:
        """A table in a catalog is an Iceberg table, also when no format is given."""
        if not isinstance(values, dict) or values.get("format") not in (None, "auto"):
            return values
        return {**values, "format": "iceberg"} if is_iceberg(str(values.get("uri"))) else values

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        of_iceberg = getattr(self, "format", None) == "iceberg"
        if of_iceberg != is_iceberg(self.uri):
            raise ValueError("`format: iceberg` and a uri iceberg:NAMESPACE.TABLE go together")
        if self.catalog is not None and not of_iceberg:
            raise ValueError("`catalog` is for Iceberg tables, iceberg:NAMESPACE.TABLE")
        return self


class TableConfig(_Place):
    """A table to read. One Parquet file is a table, too."""

    format: TableFormat | Literal["auto"] = "auto"
    """`delta`, `parquet`, `iceberg`, `lance`, or `auto`: what lies there."""

    version: int | None = Field(default=None, ge=0)
    """Delta or Lance version, sequence number of a Parquet manifest, or Iceberg snapshot id. Default: the newest
    when the job starts."""


class SinkConfig(_Place):
    """A table to write; made when it is not there."""

    format: TableFormat = "delta"
    """`delta`, `parquet` with a manifest, `iceberg`, or `lance`."""


def normal_uri(uri: str) -> str:
    """Return one spelling per place: s3://bucket/path, an absolute local path, iceberg:…; raises ValueError."""
    if not uri.strip():
        raise ValueError("a table's URI is empty")
    if is_iceberg(uri):
        return iceberg_uri(uri)
    scheme = _SCHEME.match(uri)
    if scheme is None:
        return str(Path(uri).expanduser().absolute())
    parts = urlsplit(uri)
    if scheme[1].lower() == "file":
        return unquote(parts.path).rstrip("/") or "/"
    if scheme[1].lower() not in _S3_SCHEMES:
        raise ValueError(f"{uri}: unknown scheme {scheme[1]}://; local paths and s3:// are known")
    if not parts.netloc:
        raise ValueError(f"{uri}: no bucket; write s3://bucket/path")
    return f"s3://{parts.netloc}{parts.path.rstrip('/')}"


class S3Settings(BaseSettings):
    """How S3 is reached. Credentials are found by the libraries themselves, as the AWS tools find them."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)

    endpoint_url: str | None = Field(
        default=None, validation_alias=AliasChoices("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL")
    )
    """Endpoint of a store other than AWS, such as MinIO."""

    region: str | None = Field(default=None, validation_alias=AliasChoices("AWS_REGION", "AWS_DEFAULT_REGION"))
    """Region of the buckets."""

    timeout: float = Field(default=10, gt=0, validation_alias="LAKEBED_S3_TIMEOUT")
    """Seconds that a request may wait for its answer."""

    attempts: int = Field(default=3, ge=1, validation_alias="AWS_MAX_ATTEMPTS")
    """How often a request is made when the store answers 5xx or not at all."""

    @model_validator(mode="after")
    def _endpoint_is_http(self) -> Self:
        if self.endpoint_url and not self.endpoint_url.startswith(("http://", "https://")):
            raise ValueError(f"AWS_ENDPOINT_URL must begin with http:// or https://, not {self.endpoint_url!r}")
        return self

    @property
    def delta_options(self) -> dict[str, str]:
        """The same for delta-rs; commits go by conditional put, so two writers cannot overwrite each other."""
        options = {
            "aws_conditional_put": "etag",
            "timeout": f"{round(self.timeout * 1000)}ms",
            "max_retries": str(self.attempts - 1),
            "retry_timeout": f"{round(self.timeout * self.attempts)}s",
        }
        if self.region:
            options["AWS_REGION"] = self.region
        if self.endpoint_url:
            options["AWS_ENDPOINT_URL"] = self.endpoint_url
            options["AWS_ALLOW_HTTP"] = str(self.endpoint_url.startswith("http://")).lower()
        return options

    @property
    def lance_options(self) -> dict[str, str]:
        """The same for Lance, which commits by conditional put unasked, and asks several times more by itself.

        Its time limit is one for a whole request, with the body: parts of data files of 5 MiB and more.
        """
        options = {
            "timeout": f"{round(self.timeout * _WHOLE_REQUEST * 1000)}ms",
            "client_max_retries": str(self.attempts - 1),
            "client_retry_timeout": str(round(self.timeout * self.attempts)),
        }
        if self.region:
            options["aws_region"] = self.region
        if self.endpoint_url:
            options["aws_endpoint"] = self.endpoint_url
            options["allow_http"] = str(self.endpoint_url.startswith("http://")).lower()
        return options
