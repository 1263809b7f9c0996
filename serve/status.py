"""How a local server stands: what its record, its HAProxy and its own HTTP say.

Knows no Ray: asking a server costs it two requests.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal

import httpx
from pydantic import BaseModel, ConfigDict

from lakebed.serve import haproxy
from lakebed.serve.haproxy import Replica
from lakebed.serve.pid_file import RecordedModel, ServerRecord
from lakebed.serve.server import is_ready

_ASK_SECONDS = 10.0


class ServerStatus(BaseModel):
    """One server."""

    model_config = ConfigDict(frozen=True)

    state: Literal["ready", "starting", "not ready"]
    url: str
    pid: int
    since: datetime
    models: tuple[RecordedModel, ...]
    models_now: bool
    """Whether `models` was asked just now; else it is what the server began with, for want of a key."""
    replicas: tuple[Replica, ...]
    requests: int
    """Requests accepted and not yet answered, in all replicas and before them."""


def server_status(record: ServerRecord, key: str | None = None) -> ServerStatus:
    """Ask a living server; `key` lets it tell which models it serves now."""
    with httpx.Client(trust_env=False, timeout=_ASK_SECONDS) as client:
        ready = is_ready(client, record.url)
        models = _models(client, record, key) if ready and (key or not record.keys) else None
    return ServerStatus(
        state="ready" if ready else "not ready" if record.ready else "starting",
        url=record.url,
        pid=record.pid,
        since=record.since,
        models=record.models if models is None else tuple(models),
        models_now=models is not None,
        replicas=tuple(haproxy.replicas(record.folder)),
        requests=haproxy.requests_inside(record.folder),
    )


def _models(client: httpx.Client, record: ServerRecord, key: str | None) -> Sequence[RecordedModel] | None:
    headers = {"authorization": f"Bearer {key}"} if key else {}
    try:
        answer = client.get(f"{record.url}/v1/models", headers=headers)
    except httpx.TransportError:
        return None
    if answer.status_code != httpx.codes.OK:
        return None
    return [
        RecordedModel(name=model["id"], version=model["version"], digest=model["digest"])
        for model in answer.json()["data"]
    ]
