"""The models a server answers for: resolving and loading them, and finding one by the name a client sends."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from lakebed.platform.config.environment import read_environment
from lakebed.platform.config.serve import Batching, ServeConfig
from lakebed.platform.encoder.load import Device, Model, resolve_model
from lakebed.platform.encoder.plan import Budget
from lakebed.platform.encoder.prepared import IntArray
from lakebed.platform.encoder.protocol import Encoder
from lakebed.platform.errors import ModelNotFoundError
from lakebed.platform.items import Item
from lakebed.platform.registry import Registry
from lakebed.serve.errors import NotReadyError
from lakebed.serve.metrics import Metrics, NoMetrics, record_batch
from lakebed.serve.scheduler import Scheduler

UNVERSIONED: Final = "unversioned"
"""What the version header says for a model that comes from no registry."""

_TRUSTED_SECONDS: Final = 5.0
"""For so long after a batch got done, an idle model is taken to work."""

_STUCK_SECONDS: Final = 60.0


@dataclass(frozen=True)
class ServedModel:
    """A loaded model with the scheduler that feeds it."""

    encoder: Encoder
    scheduler: Scheduler
    version: str
    created: int

    async def check(self) -> None:
        """Make sure that it embeds, without adding to the load of a busy one; raises what a request would.

        One that works is healthy while batches get done, however many wait. An idle one runs a real item.
        """
        now = time.monotonic()
        if self.scheduler.busy:
            if now - max(self.scheduler.started, self.scheduler.succeeded) > _STUCK_SECONDS:
                raise NotReadyError(f"no batch has got done in {_STUCK_SECONDS:g} s")
        elif now - self.scheduler.succeeded > _TRUSTED_SECONDS:
            prepared = await asyncio.to_thread(self.encoder.prepare, [Item.of("are you there?")])
            await self.scheduler.run(prepared)

    def described(self, name: str) -> dict[str, Any]:
        """The entry of `/v1/models`: OpenAI's fields, then what else is worth knowing."""
        info = self.encoder.info
        return {
            "id": name,
            "object": "model",
            "created": self.created,
            "owned_by": "lakebed",
            "version": self.version,
            "digest": info.digest,
            "dimensions": info.dimensions,
            "max_tokens": info.max_tokens,
        }


class ServedModels:
    """Models by the names clients use. A model's own version is a name too: `lakebed-embed@7`."""

    def __init__(self, models: Mapping[str, ServedModel]) -> None:
        self._models = dict(models)

    def find(self, name: str) -> ServedModel:
        """The model called `name`; raises ModelNotFoundError that lists what there is."""
        base, _, version = name.partition("@")
        model = self._models.get(name) or self._models.get(base)
        if model is None or (name not in self._models and version != model.version):
            raise ModelNotFoundError(
                f"the model {name[:100]!r} does not exist here", hint=f"served: {', '.join(self._models)}"
            )
        return model

    def configured(self, name: str) -> str:
        """The configured name that a name which `find` knows stands for: it may carry a version."""
        return name if name in self._models else name.partition("@")[0]

    def named(self) -> Mapping[str, ServedModel]:
        """Every configured name with its model."""
        return self._models

    def described(self) -> list[dict[str, Any]]:
        """Every name with its model, as `/v1/models` says it."""
        return [model.described(name) for name, model in self._models.items()]

    def distinct(self) -> Sequence[ServedModel]:
        """Every model once, however many names it has."""
        return list({id(model): model for model in self._models.values()}.values())


def resolve_models(config: ServeConfig) -> dict[str, Model]:
    """Find every configured model; raises ModelNotFoundError or ArtifactError naming the one that is missing."""
    registry = Registry(read_environment().resolved_tracking_uri)
    found = {reference: resolve_model(reference, registry) for reference in sorted(set(config.models.values()))}
    return {name: found[reference] for name, reference in config.models.items()}


def load_models(
    models: Mapping[str, Model], device: Device, batching: Batching, metrics: Metrics | None = None
) -> ServedModels:
    """Load each distinct model once and run one item through it. They share one device thread."""
    thread = ThreadPoolExecutor(1, thread_name_prefix="device")
    loaded: dict[tuple[str, str, str | None], ServedModel] = {}
    served = {}
    for name, model in models.items():
        identity = (model.kind, model.target, model.digest)
        if identity not in loaded:
            on_batch = partial(record_batch, metrics or NoMetrics(), name)
            loaded[identity] = _load(model, device, batching, thread, on_batch)
        served[name] = loaded[identity]
    return ServedModels(served)


def _load(
    model: Model, device: Device, batching: Batching, thread: Executor, on_batch: Callable[[IntArray], None]
) -> ServedModel:
    encoder = model.load(device)
    thread.submit(_warm_up, encoder).result()
    scheduler = Scheduler(encoder.forward, thread, Budget(batching.tokens, batching.rows), on_batch)
    version = UNVERSIONED if model.version is None else str(model.version)
    return ServedModel(encoder, scheduler, version, int(time.time()))


def _warm_up(encoder: Encoder) -> None:
    items = [Item.of("warm up"), Item.of(series=[[0.0, 1.0, 0.0, -1.0]])]
    encoder.finish(encoder.forward(encoder.prepare(items)))
