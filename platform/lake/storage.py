"""Files and folders by URI, local or on S3, through fsspec; and what a store's failures mean to a user.

Knows nothing of tables.
"""

import errno
import hashlib
import json
import os
import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NoReturn

import fsspec
from pydantic import ValidationError

from lakebed.platform.config.base import describe
from lakebed.platform.config.storage import S3Settings
from lakebed.platform.errors import ConfigError, LakebedError, TableError, TableNotFoundError, UnreachableError

_S3: Final = "s3://"
_REMOVALS: Final = 5
CONNECT_SECONDS: Final = 5
_BROKEN_ANSWERS: Final = 2  # how often s3fs asks once botocore has given up: it alone sees a body that breaks off
_UNREACHABLE: Final = (
    "connection refused", "connect error", "could not connect", "dns error", "error sending request",
    "timed out", "timeout",
)  # fmt: skip
_DENIED: Final = (
    "forbidden", "access denied", "accessdenied", "access key id", "invalidaccesskey", "signature",
    "unable to locate credentials", "no credentials", "credential provider",
)  # fmt: skip
_LIBRARIES: Final = frozenset(
    {"botocore", "aiobotocore", "aiohttp", "_internal", "deltalake", "pyiceberg", "sqlalchemy"}
)
_SERVER_ERROR: Final = re.compile(r"status code\W+5\d\d\b")
_FAILING: Final = frozenset({errno.EREMOTEIO, errno.EBUSY})  # what s3fs makes of 5xx
_DECORATION: Final = re.compile(r"\x1b\[\d+m|↳")
_ABSENT: Final = ("nosuchbucket", "bucket does not exist", "no files in log segment", "does not exist")


def filesystem(uri: str) -> Any:
    """Return the fsspec file system of a normal URI."""
    if not uri.startswith(_S3):
        return fsspec.filesystem("file", auto_mkdir=True)
    settings = s3_settings()
    store = fsspec.filesystem(
        "s3",
        endpoint_url=settings.endpoint_url,
        client_kwargs={"region_name": settings.region} if settings.region else {},
        config_kwargs={
            "connect_timeout": CONNECT_SECONDS,
            "read_timeout": settings.timeout,
            "retries": {"mode": "standard", "total_max_attempts": settings.attempts},
        },
        use_listings_cache=False,
    )
    store.retries = _BROKEN_ANSWERS
    return store


def s3_settings() -> S3Settings:
    """Read the AWS variables now; raises ConfigError when one holds no usable value."""
    try:
        return S3Settings()
    except ValidationError as error:
        raise ConfigError(f"environment: {describe(error)}") from None


def delta_options(uri: str) -> dict[str, str] | None:
    """Storage options that let delta-rs reach what fsspec reaches."""
    return s3_settings().delta_options if uri.startswith(_S3) else None


def lance_options(uri: str) -> dict[str, str] | None:
    """Storage options that let Lance reach what fsspec reaches."""
    return s3_settings().lance_options if uri.startswith(_S3) else None


def inner_path(uri: str) -> str:
    """Return the path as the file system spells it: without s3://."""
    return uri.removeprefix(_S3)


def join(uri: str, *parts: str) -> str:
    """Return a place inside a folder; a part that is a whole place (/path, s3://…) stands for itself."""
    whole = max((place for place, part in enumerate(parts) if part.startswith(_S3)), default=None)
    return posixpath.join(uri, *parts) if whole is None else posixpath.join(*parts[whole:])


def names_in(uri: str) -> list[str]:
    """Names of what lies in a folder, sorted; empty when there is no such folder."""
    store = filesystem(uri)
    try:
        found = store.ls(inner_path(uri), detail=False)
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(posixpath.basename(path.rstrip("/")) for path in found)


@dataclass(frozen=True)
class StoredFile:
    """A file below a folder: its path relative to the table, its size in bytes, when it was written."""

    path: str
    size: int
    modified: datetime


def files_below(uri: str, folder: str) -> list[StoredFile]:
    """Every file in a folder of a table, and in the folders of that; none when it is not there."""
    store, root = filesystem(uri), inner_path(uri).rstrip("/") + "/"
    try:
        found = store.find(join(root, folder), detail=True)
    except FileNotFoundError:
        return []
    return [
        StoredFile(path.removeprefix(root), entry["size"], _modified(entry))
        for path, entry in sorted(found.items())
    ]


def _modified(entry: dict[str, Any]) -> datetime:
    at = entry.get("LastModified") or entry["mtime"]
    return at if isinstance(at, datetime) else datetime.fromtimestamp(at, UTC)


def stamp_of(entry: Mapping[str, Any]) -> str:
    """16 hex digits of a file's size, and of its ETag or its time, as a file system lists them."""
    written = str(entry.get("ETag") or entry.get("mtime") or entry.get("LastModified"))
    return hashlib.sha256(json.dumps([entry["size"], written]).encode()).hexdigest()[:16]


def stamp_of_file(uri: str) -> str | None:
    """The stamp of a file as it is now; None when it is not there."""
    with store_errors(uri):
        try:
            return stamp_of(filesystem(uri).info(inner_path(uri)))
        except FileNotFoundError:
            return None


def remove_files(uri: str, paths: Sequence[str]) -> None:
    """Remove files of a table; those that are gone already are no fault."""
    for path in paths:
        place = join(uri, path)  # of a table in a catalog, only the place says which store it is in
        with suppress(FileNotFoundError):
            filesystem(place).rm_file(inner_path(place))


def exists(uri: str) -> bool:
    """Whether a file or a folder is there."""
    return bool(filesystem(uri).exists(inner_path(uri)))


def require_store(uri: str) -> None:
    """Raise TableNotFoundError when the bucket of an S3 URI is not there; folders are made when needed."""
    if uri.startswith(_S3):
        bucket = inner_path(uri).partition("/")[0]
        try:
            filesystem(uri).info(bucket)  # `exists` would say no where access is denied
        except FileNotFoundError:
            raise TableNotFoundError(f"{uri}: there is no bucket {bucket!r}", hint="make it first") from None


def read_bytes(uri: str) -> bytes:
    """Read one whole file."""
    data: bytes = filesystem(uri).cat_file(inner_path(uri))
    return data


def create_file(uri: str, data: bytes) -> None:
    """Write a file that must not be there yet, whole or not at all; raises FileExistsError."""
    store = filesystem(uri)
    if uri.startswith(_S3):
        store.pipe_file(inner_path(uri), data, mode="create")  # a conditional put: If-None-Match
        return
    partial = f"{uri}.{os.getpid()}.partial"
    try:
        store.pipe_file(partial, data)
        os.link(partial, uri)  # fails when `uri` is there; rename would replace it
    finally:
        with suppress(FileNotFoundError):
            store.rm_file(partial)


def replace_file(uri: str, data: bytes) -> None:
    """Write a file in place of the one that may be there; a reader meets the old one or the new one, whole."""
    store = filesystem(uri)
    if uri.startswith(_S3):
        store.pipe_file(inner_path(uri), data)
        return
    partial = Path(f"{uri}.{os.getpid()}.partial")
    try:
        store.pipe_file(str(partial), data)
        partial.replace(uri)
    finally:
        partial.unlink(missing_ok=True)


def remove_folder(uri: str) -> None:
    """Remove a folder and all in it, also what comes in meanwhile; nothing happens when it is not there."""
    store = filesystem(uri)
    for tries_left in reversed(range(_REMOVALS)):
        try:
            if store.exists(inner_path(uri)):
                store.rm(inner_path(uri), recursive=True)
            return
        except OSError as error:
            if error.errno != errno.ENOTEMPTY or not tries_left:
                raise


@contextmanager
def store_errors(uri: str) -> Iterator[None]:
    """Turn what the stores and table libraries raise into errors that name the table and what to do."""
    try:
        yield
    except (LakebedError, FileExistsError):
        raise
    except Exception as error:
        if not _is_of_a_store(error):
            raise
        _translate(uri, error)


def _is_of_a_store(error: Exception) -> bool:
    return isinstance(error, OSError) or type(error).__module__.partition(".")[0] in _LIBRARIES


def _translate(uri: str, error: Exception) -> NoReturn:
    text = " ".join(_DECORATION.sub(" ", str(error)).split())
    seen = f"{type(error).__name__} {text}".lower()
    if any(word in seen for word in _ABSENT) or isinstance(error, FileNotFoundError):
        raise TableNotFoundError(f"{uri}: there is no table", hint="check the path") from error
    denied = re.search(r"\b403\b", seen) or any(word in seen for word in _DENIED)  # not the port of a store: 44037
    if denied or isinstance(error, PermissionError):
        raise TableError(f"{uri}: access is denied", hint="check AWS_ACCESS_KEY_ID and its rights") from error
    place = s3_settings().endpoint_url or "S3"
    if _SERVER_ERROR.search(seen) or (isinstance(error, OSError) and error.errno in _FAILING):
        raise UnreachableError(f"{uri}: {place} answers with a server error", hint="try again later") from error
    if any(word in seen for word in _UNREACHABLE):
        raise UnreachableError(f"{uri}: {place} does not answer", hint="check AWS_ENDPOINT_URL") from error
    raise TableError(f"{uri}: {text[:300]}") from error
