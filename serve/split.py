"""The split shape: replicas that speak HTTP prepare and finish, replicas of each model run its forwards.

`RemoteRunner` stands in the one for `scheduler.Scheduler`, which `ModelServer` has in the other: one array of
prepared work goes there, one of vectors comes back. A request is cut into parts by tokens, so that several
replicas share a large one. Every part names the digest of its model, and a replica that does not hold that one yet
finds it by itself: a moved alias mixes no versions, and a new replica needs nobody to tell it.
"""

import asyncio
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from ray.exceptions import RayActorError

from lakebed.platform.config.environment import read_environment
from lakebed.platform.config.serve import ServeConfig
from lakebed.platform.encoder.load import Model, can_move, resolve_model
from lakebed.platform.encoder.prepared import IntArray, Prepared, VectorArray
from lakebed.platform.encoder.protocol import Encoder
from lakebed.platform.registry import Registry
from lakebed.serve.errors import NotReadyError
from lakebed.serve.meter import Meter
from lakebed.serve.metrics import Metrics
from lakebed.serve.models import LocalRunners, ModelLoader, Runner, ServedModel
from lakebed.serve.timings import Timings

_PART_BATCHES: Final = 4
"""A part fills so many device batches: enough to keep a device busy, little enough to share a request."""

_ATTEMPTS: Final = 3
_MOST_VERSIONS: Final = 2
"""The one that is served, and the one before or after it."""


@dataclass(frozen=True, eq=False)
class Forwarded:
    """What comes back of a part: raw vectors (n, native dimensions), and seconds of waiting and of the device."""

    vectors: VectorArray
    queue: float
    forward: float


class RemoteRunner:
    """Brings prepared work of one model to the replicas behind `server`, a handle of `ModelServer`."""

    def __init__(
        self, server: Any, model: Model, digest: str, part_cost: int, meter: Meter, replicas: int = 1
    ) -> None:
        self._server = server
        self._meter = meter
        self._replicas = replicas
        self._reference = _pinned(model)
        self._digest = digest
        self._part_cost = part_cost
        self._inside = 0
        self.started = self.succeeded = float("-inf")

    @property
    def busy(self) -> bool:
        """Whether any request waits for an answer."""
        return self._inside > 0

    async def run(self, work: Prepared, owner: str = "", timings: Timings | None = None) -> VectorArray:
        """Return raw vectors (n, native dimensions) in the order of `work`; raises NotReadyError."""
        if not self.busy:
            self.started = time.monotonic()
        self._inside += 1
        try:
            vectors, slowest = await self._run(work, owner)
        finally:
            self._inside -= 1
        self.succeeded = time.monotonic()
        if timings is not None:
            timings.queue, timings.forward = slowest.queue, slowest.forward
        return vectors

    async def _run(self, work: Prepared, owner: str) -> tuple[VectorArray, Forwarded]:
        parts = list(parts_of(work.costs, self._part_cost))
        tasks = [asyncio.create_task(self._ask(work.take(part), owner)) for part in parts]
        try:
            done = await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
        vectors = np.empty((len(work), done[0].vectors.shape[1]), np.float32)
        for part, forwarded in zip(parts, done, strict=True):
            vectors[part] = forwarded.vectors
        return vectors, max(done, key=lambda forwarded: forwarded.queue + forwarded.forward)

    async def _ask(self, part: Prepared, owner: str) -> Forwarded:
        """Ask a replica, and another when that one dies: a forward changes nothing, so it may be done again."""
        for _ in range(_ATTEMPTS):
            try:
                answer: Forwarded = await self._server.forward.remote(self._reference, self._digest, part, owner)
                self._meter.add(self._replicas * int(part.costs.sum()), answer.forward)
                return answer
            except RayActorError:
                continue
        raise NotReadyError("the replicas of the model do not answer", hint="try again in a moment")


class RemoteRunners:
    """Runners for an ingress replica; `servers` are handles of `ModelServer` by the name that is served."""

    def __init__(self, servers: Mapping[str, Any], config: ServeConfig) -> None:
        self._servers = servers
        self._config = config
        self.meter = Meter()

    def __call__(self, name: str, model: Model, encoder: Encoder) -> Runner:
        """Make the runner of one model."""
        part_cost = _PART_BATCHES * self._config.batching.tokens
        replicas = self._config.model_replicas(name).min
        return RemoteRunner(self._servers[name], model, encoder.info.digest, part_cost, self.meter, replicas)


class ModelServer:
    """Holds one model, and the version before or after it while an alias moves."""

    def __init__(self, config: ServeConfig, name: str, model: Model, metrics: Metrics | None = None) -> None:
        self._name = name
        self._loader = ModelLoader(config.device, LocalRunners(config.batching, metrics))
        self._loading = ThreadPoolExecutor(1, thread_name_prefix="loading")
        served = self._loader.load({name: model})[name]
        self._served = {served.encoder.info.digest: served}
        self.queued_tokens = 0

    async def forward(self, reference: str, digest: str, work: Prepared, owner: str) -> Forwarded:
        """Run work that was prepared for the model with this digest, which `reference` names."""
        timings, cost = Timings(), int(work.costs.sum())
        self.queued_tokens += cost
        try:
            served = await self._model(reference, digest)
            vectors = await served.scheduler.run(work, owner, timings)
        finally:
            self.queued_tokens -= cost
        return Forwarded(vectors, timings.queue, timings.forward)

    async def check(self) -> None:
        """Make sure that every model it holds embeds."""
        for served in list(self._served.values()):
            await served.check()

    async def _model(self, reference: str, digest: str) -> ServedModel:
        if digest not in self._served:
            loading = asyncio.get_running_loop().run_in_executor(self._loading, self._load, reference, digest)
            await asyncio.shield(loading)
        return self._served[digest]

    def _load(self, reference: str, digest: str) -> None:
        """On a thread of its own, one at a time; what is served goes on."""
        if digest in self._served:
            return
        model = resolve_model(reference, Registry(read_environment().resolved_tracking_uri))
        served = self._loader.load({self._name: model})[self._name]
        if served.encoder.info.digest != digest:
            raise NotReadyError(f"{reference} is not the model that was asked for", hint="try again in a moment")
        kept = list(self._served.items())[1 - _MOST_VERSIONS :]
        self._served = {**dict(kept), digest: served}


def parts_of(costs: IntArray, part_cost: int) -> Iterator[IntArray]:
    """Yield index arrays that cover every item once, each of at most `part_cost` or one item, alike in cost."""
    order = np.argsort(-costs, kind="stable")
    spent = np.cumsum(costs[order])
    start = 0
    while start < len(order):
        before = int(spent[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(spent, before + part_cost, side="right")))
        yield order[start:stop]
        start = stop


def _pinned(model: Model) -> str:
    """A reference that names the same version later, too."""
    movable = can_move(model.reference) and model.version is not None
    return f"{model.reference.partition('@')[0]}@{model.version}" if movable else model.reference
