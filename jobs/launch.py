"""Jobs on a cluster, from a laptop, through Ray Jobs: submit, list, status, logs, stop.

What is submitted is this very code, the job's specification, and the model when it lies only on this machine; the
cluster needs Ray and lakebed's dependencies.
Local paths in a job mean paths on the cluster.
"""

import asyncio
import logging
import os
import secrets
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from lakebed.platform.cluster import runtime_env
from lakebed.platform.config.cluster import ClusterConfig
from lakebed.platform.config.embed import EmbedJob
from lakebed.platform.encoder.load import Model, packaged_model
from lakebed.platform.errors import ConfigError, JobFailedError, JobNotFoundError, UnreachableError

SUCCEEDED: Final = "SUCCEEDED"
_ENDED: Final = frozenset({SUCCEEDED, "FAILED", "STOPPED"})
_SPECIFICATION: Final = "job.json"
_MODEL: Final = "model"
_ENTRYPOINT: Final = f"python -m lakebed embed {_SPECIFICATION}"
_POLL_SECONDS: Final = 0.5
_CHATTY: Final = (
    "ray.dashboard.modules.dashboard_sdk",
    "ray.dashboard.modules.job.sdk",
    "ray._private.runtime_env.packaging",
)
"""Loggers that tell of each package and connection; each sets a level of its own."""


@dataclass(frozen=True)
class JobRecord:
    """A job as the cluster knows it. `message` is Ray's own account of how it stands."""

    id: str
    status: str
    message: str
    started: datetime | None
    ended: datetime | None
    sink: str

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will happen."""
        return self.status in _ENDED


class Cluster:
    """A Ray cluster's job server, at http://host:8265. Raises UnreachableError when none answers."""

    def __init__(self, address: str) -> None:
        if not address.startswith(("http://", "https://")):
            raise ConfigError(
                f"address {address!r}: expected http://host:8265, the cluster's dashboard",
                hint="give --address, or set LAKEBED_ADDRESS",
            )
        self.address = address
        with self._translated():
            from ray.job_submission import JobSubmissionClient

            for name in _CHATTY:
                logging.getLogger(name).setLevel(logging.ERROR)
            self._client = JobSubmissionClient(address, headers=_authorization())

    def submit(self, job: EmbedJob, model: Model) -> str:
        """Ship the code and start a job with `model`, as it was resolved here; returns its id at once."""
        job_id = f"lakebed-{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
        with tempfile.TemporaryDirectory() as folder, self._translated():
            shipped = job.model_copy(update={"cluster": ClusterConfig(), "model": _shipped(model, Path(folder))})
            (Path(folder) / _SPECIFICATION).write_text(shipped.model_dump_json(indent=1), encoding="utf-8")
            self._client.submit_job(
                entrypoint=_ENTRYPOINT,
                submission_id=job_id,
                runtime_env={**runtime_env(), "working_dir": folder},
                metadata={"lakebed.sink": job.sink.uri, "lakebed.model": job.model},
            )
        return job_id

    def jobs(self) -> list[JobRecord]:
        """Every submitted job, newest first."""
        with self._translated():
            found = [_record(details) for details in self._client.list_jobs() if details.submission_id]
        return sorted(found, key=lambda job: job.started or datetime.min.replace(tzinfo=UTC), reverse=True)

    def job(self, job_id: str) -> JobRecord:
        """One job; raises JobNotFoundError."""
        with self._translated(job_id):
            return _record(self._client.get_job_info(job_id))

    def logs(self, job_id: str) -> str:
        """What a job has printed so far."""
        self.job(job_id)
        with self._translated(job_id):
            return str(self._client.get_job_logs(job_id))

    def stop(self, job_id: str) -> JobRecord:
        """Ask a job to stop, and wait until it has; it commits nothing after that."""
        self.job(job_id)
        with self._translated(job_id):
            self._client.stop_job(job_id)
        return self._ended(job_id)

    def follow(self, job_id: str, write: Callable[[str], None]) -> JobRecord:
        """Pass on a job's output until it ends; raises JobFailedError unless it succeeded.

        A lost connection is taken up again where the output stopped.
        """
        output = _Output(write)
        while True:
            ended = self.job(job_id).has_ended  # asked first: what an ended job has printed is all there
            try:
                asyncio.run(self._tail(job_id, output))
            except (RuntimeError, OSError):  # the connection was lost; whether the job lives, its status says
                time.sleep(_POLL_SECONDS)
            if ended:
                return _succeeded(self.job(job_id), self.logs(job_id))

    async def _tail(self, job_id: str, output: "_Output") -> None:
        output.restart()
        async for text in self._client.tail_job_logs(job_id):
            output.take(text)

    def _ended(self, job_id: str) -> JobRecord:
        while not (record := self.job(job_id)).has_ended:
            time.sleep(_POLL_SECONDS)
        return record

    @contextmanager
    def _translated(self, job_id: str | None = None) -> Iterator[None]:
        """Turn what Ray's client raises into errors that say what to do."""
        from ray.exceptions import AuthenticationError

        try:
            yield
        except AuthenticationError:
            raise UnreachableError(
                f"{self.address}: the cluster wants another token", hint="set RAY_AUTH_TOKEN to the cluster's"
            ) from None
        except (ConnectionError, OSError) as error:
            raise UnreachableError(
                f"{self.address}: no Ray cluster answers", hint="check the address, or the tunnel to it"
            ) from error
        except RuntimeError as error:
            if job_id is not None and "404" in str(error):
                raise JobNotFoundError(
                    f"{self.address}: no job {job_id!r}", hint="`lakebed jobs list` shows them"
                ) from None
            raise UnreachableError(f"{self.address}: {str(error).splitlines()[0][:300]}") from error


def _shipped(model: Model, folder: Path) -> str:
    """Return the reference that means the same model there; a model that lies only here goes along."""
    if model.kind != "artifact" or Path(model.target) == packaged_model().absolute():
        return model.reference
    place = folder / (_MODEL if model.version is None else f"{model.name}@{model.version}")
    place.mkdir()
    for name, data in (model.pack().contents or {}).items():
        (place / name).write_bytes(data)
    return f"./{place.name}"


@dataclass
class _Output:
    """Passes a stream on once, though it may be read from its start several times."""

    write: Callable[[str], None]
    written: int = 0
    seen: int = 0

    def restart(self) -> None:
        """The stream begins again."""
        self.seen = 0

    def take(self, text: str) -> None:
        """Write what of `text` is new."""
        new = text[max(0, self.written - self.seen) :]
        self.seen += len(text)
        self.written = max(self.written, self.seen)
        if new:
            self.write(new)


def _authorization() -> dict[str, str] | None:
    """Return the header that carries Ray's token, found where Ray itself looks for it.

    Ray 2.60 sends it by itself only under RAY_AUTH_MODE=token, but starts its clusters with tokens on wherever
    one lies in the home folder.
    """
    if os.environ.get("RAY_AUTH_MODE", "token").lower() != "token":
        return None
    token = os.environ.get("RAY_AUTH_TOKEN")
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    if not token and path.is_file():
        token = path.read_text(encoding="utf-8").strip()
    return {"Authorization": f"Bearer {token}"} if token else None


def _succeeded(record: JobRecord, logs: str) -> JobRecord:
    """Return the record of a job that succeeded; otherwise raise what it said last."""
    if record.status == SUCCEEDED:
        return record
    lines = [line.strip() for line in logs.splitlines() if line.strip()]
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    reason = [record.message.partition("\n")[0], *lines[-1:], *errors][-1]
    raise JobFailedError(
        f"job {record.id} {record.status.lower()}: {reason}", hint=f"`lakebed jobs logs {record.id}` shows all"
    )


def _record(details: Any) -> JobRecord:
    return JobRecord(
        id=str(details.submission_id or details.job_id),
        status=str(details.status.value),
        message=str(details.message or ""),
        started=_time(details.start_time),
        ended=_time(details.end_time),
        sink=(details.metadata or {}).get("lakebed.sink", ""),
    )


def _time(milliseconds: int | None) -> datetime | None:
    return datetime.fromtimestamp(milliseconds / 1000, UTC) if milliseconds else None
