"""Reaching MLflow: one client per URI, quiet, quick to say that a server is away, and in our own errors.

Knows nothing of models or evaluations. MLflow itself is imported on first use: it takes a second or two.
"""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import urlsplit, urlunsplit

from lakebed.platform.errors import ConfigError, LakebedError, UnreachableError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

_SQLITE: Final = "sqlite:///"
_ANSWER_SECONDS: Final = 5.0
_AUTHENTICATED_ELSEWHERE: Final = (401, 403)
_SETTINGS: Final = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_MODEL_CATALOG_URI": "",
    # MLflow's own 7 retries of 120 s hold a command for a quarter of an hour when a server dies under it.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
}

T = TypeVar("T")


class MlflowStore:
    """An MLflow server (http, https) or a SQLite database (sqlite:///PATH) with its artifacts beside it.

    Other databases are refused: artifacts in a local folder next to a shared database would be found by nobody
    else. `mlflow server --backend-store-uri` serves them properly.
    """

    def __init__(self, uri: str) -> None:
        if not uri.startswith((_SQLITE, "http://", "https://")):
            raise ConfigError(
                f"MLflow address {_without_password(uri)!r}: expected http(s)://HOST:PORT or sqlite:///PATH",
                hint="for another database, start `mlflow server --backend-store-uri …` and give its URL",
            )
        self.uri = uri
        self.shown = _without_password(uri)
        for name, value in _SETTINGS.items():  # MLflow reads some of them when it is imported
            os.environ.setdefault(name, value)

    @property
    def database(self) -> Path | None:
        """The SQLite file, or None for a server."""
        return Path(self.uri.removeprefix(_SQLITE)).absolute() if self.uri.startswith(_SQLITE) else None

    @property
    def is_empty(self) -> bool:
        """True when this is a database that nobody has made yet, so there is nothing to look up."""
        return self.database is not None and not self.database.exists()

    @cached_property
    def client(self) -> "MlflowClient":
        """The client; raises UnreachableError within seconds when nothing answers."""
        if self.database is None:
            self._check_that_it_answers()
        with self.translated():
            return self._new_client() if self.database is None else self._open_database(self.database)

    def _new_client(self) -> "MlflowClient":
        from mlflow import MlflowClient

        return MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)

    def _open_database(self, database: Path) -> "MlflowClient":
        """Open, and make the tables at first use, one process at a time: concurrent migrations corrupt them."""
        database.parent.mkdir(parents=True, exist_ok=True)
        with (database.parent / f"{database.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            client = self._new_client()
            client.search_registered_models(max_results=1)
        return client

    def _check_that_it_answers(self) -> None:
        import httpx

        try:
            status = httpx.get(f"{self.uri.rstrip('/')}/health", timeout=_ANSWER_SECONDS).status_code
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise UnreachableError(
                f"{self.shown}: no MLflow server answers: {str(error) or type(error).__name__}",
                hint="start one with `mlflow server`, or unset LAKEBED_TRACKING_URI to work locally",
            ) from None
        if status != 200 and status not in _AUTHENTICATED_ELSEWHERE:
            raise UnreachableError(
                f"{self.shown}: what answers is not a healthy MLflow server (HTTP {status} for /health)",
                hint="check the address in LAKEBED_TRACKING_URI or MLFLOW_TRACKING_URI",
            )

    def experiment(self, name: str) -> str:
        """Id of the experiment, made when missing."""
        with self.translated():
            found = self.client.get_experiment_by_name(name)
            if found is None:
                return self._create_experiment(name)
        if found.lifecycle_stage != "active":
            raise ConfigError(
                f"{self.shown}: experiment {name!r} was deleted",
                hint=f"restore it with `mlflow experiments restore --experiment-id {found.experiment_id}`",
            )
        return str(found.experiment_id)

    def _create_experiment(self, name: str) -> str:
        from mlflow.exceptions import MlflowException

        # A bare database would put artifacts into ./mlruns of whatever folder the command runs in.
        location = None if self.database is None else (self.database.parent / "artifacts").as_uri()
        try:
            return str(self.client.create_experiment(name, artifact_location=location))
        except MlflowException as error:
            found = self.client.get_experiment_by_name(name)
            if error.error_code != "RESOURCE_ALREADY_EXISTS" or found is None:
                raise
            return str(found.experiment_id)  # another process was first

    def find(self, lookup: "Callable[[MlflowClient], T]") -> T | None:
        """Run a look-up by name; None when MLflow says that there is no such thing."""
        from mlflow.exceptions import MlflowException

        with self.translated():
            try:
                return lookup(self.client)
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
                return None

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Turn MLflow's and its database's exceptions into one line of our own."""
        from mlflow.exceptions import MlflowException
        from sqlalchemy.exc import SQLAlchemyError

        try:
            yield
        except MlflowException as error:
            raise self._fault(error) from error
        except SQLAlchemyError as error:
            reason = str(getattr(error, "orig", None) or error).splitlines()[0]
            raise UnreachableError(f"{self.shown}: the MLflow database cannot be used: {reason}") from error
        except OSError as error:
            raise UnreachableError(f"{self.shown}: the MLflow store cannot be used: {error}") from error

    def _fault(self, error: "MlflowException") -> LakebedError:
        reason = str(error).strip().splitlines()[0][:300]
        if error.error_code in ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE"):
            return UnreachableError(f"{self.shown}: MLflow failed: {reason}")
        return ConfigError(f"{self.shown}: MLflow refused: {reason}")

    @contextmanager
    def as_default(self) -> Iterator[None]:
        """Make this the process-wide tracking URI for a moment.

        MLflow's SQL registry asks the process-wide store, not its own, for a logged model by id, and would make
        a database in the current folder to look in (mlflow 3.17.2, sqlalchemy_store.create_model_version).
        """
        import mlflow

        previous = os.environ.get("MLFLOW_TRACKING_URI")  # MLflow keeps its choice there too
        mlflow.set_tracking_uri(self.uri)
        try:
            yield
        finally:
            mlflow.set_tracking_uri(previous)  # type: ignore[arg-type]  # None means not chosen


def quoted(value: str) -> str:
    """Return a value as a literal in an MLflow filter; raises ConfigError when it cannot be one."""
    if "'" in value:
        raise ConfigError(f"{value!r}: names here must not hold quotation marks")
    return f"'{value}'"


def _without_password(uri: str) -> str:
    try:
        parts = urlsplit(uri)
        return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])) if parts.netloc else uri
    except ValueError:  # not a URL at all
        return uri
