"""The models a server answers for: resolving and loading them, and finding one by the name a client sends."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Protocol

from lakebed.platform.config.environment import read_environment
from lakebed.platform.config.serve import Batching, ServeConfig
from lakebed.platform.encoder.lanes import lanes
from lakebed.platform.encoder.load import Device, Model, resolve_model
from lakebed.platform.encoder.plan import Budget
from lakebed.platform.encoder.prepared import Prepared, VectorArray
from lakebed.platform.encoder.protocol import Encoder, lanes_of
from lakebed.platform.errors import ModelNotFoundError
from lakebed.platform.items import Item
from lakebed.platform.registry import Registry
from lakebed.serve.errors import ModelNotAllowedError, NotReadyError
from lakebed.serve.meter import Meter
from lakebed.serve.metrics import Metrics, NoMetrics, record_batch
from lakebed.serve.scheduler import Scheduler
from lakebed.serve.timings import Timings

UNVERSIONED: Final = "unversioned"
"""What the version header says for a model that comes from no registry."""

_TRUSTED_SECONDS: Final = 5.0
"""For so long after a batch got done, an idle model is taken to work."""

_STUCK_SECONDS: Final = 60.0

_SENTENCE_TOKENS: Final = 30
_SENTENCE: Final = Item.of("the same few words " * (_SENTENCE_TOKENS // 4))

Permitted = Callable[[str], bool]
"""Whether a caller may use the model of this name."""


def _all_names(_name: str) -> bool:
    return True


class Runner(Protocol):
    """Brings prepared work to a device: `scheduler.Scheduler` here, `split.RemoteRunner` elsewhere.

    `busy` says whether anything runs or waits; `started` and `succeeded` when, by the monotonic clock, there was
    last something to do, and last something came to an end.
    """

    started: float
    succeeded: float

    @property
    def busy(self) -> bool:
        """Whether anything runs or waits."""
        ...

    async def run(self, work: Prepared, owner: str = "", timings: Timings | None = None) -> VectorArray:
        """Return raw vectors (n, native dimensions) in the order of `work`; cancelling drops what waits."""
        ...


@dataclass(frozen=True)
class ServedModel:
    """A loaded model with what runs it."""

    encoder: Encoder
    scheduler: Runner
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
            "max_model_len": info.max_tokens,  # what vLLM calls it; mteb's wrapper asks to cut texts there
        }


class ServedModels:
    """Models by the names clients use. A model's own version is a name too: `lakebed-embed@7`.

    A request keeps the model that it found, whatever is put in its place meanwhile. `meter` knows how fast what
    runs them works.
    """

    def __init__(self, models: Mapping[str, ServedModel], meter: Meter | None = None) -> None:
        self.meter = meter or Meter()
        self._models = dict(models)
        self._on_put: list[Callable[[], None]] = []

    def find(self, name: str, permitted: Permitted = _all_names) -> ServedModel:
        """The model called `name`.

        Raises ModelNotFoundError that lists what there is of what is `permitted`, and ModelNotAllowedError when
        the model is there and not permitted.
        """
        base, _, version = name.partition("@")
        model = self._models.get(name) or self._models.get(base)
        if model is None or (name not in self._models and version != model.version):
            raise self._not_found(name, permitted)
        if not permitted(name):
            raise ModelNotAllowedError(
                f"this key may not use the model {name!r}",
                hint="`lakebed keys update` changes what it may",
                param="model",
            )
        return model

    def put(self, models: Mapping[str, ServedModel]) -> None:
        """Let names lead to other models from now on."""
        self._models = {**self._models, **models}
        for tell in self._on_put:
            tell()

    def on_put(self, tell: Callable[[], None]) -> None:
        """Have `tell` called after every change."""
        self._on_put.append(tell)

    def described(self, permitted: Permitted = _all_names) -> list[dict[str, Any]]:
        """Every name that is `permitted`, with its model."""
        return [model.described(name) for name, model in self._models.items() if permitted(name)]

    def look_up(self, name: str, permitted: Permitted = _all_names) -> dict[str, Any]:
        """The entry of one name; raises ModelNotFoundError also for what is not `permitted`."""
        try:
            return self.find(name, permitted).described(name)
        except ModelNotAllowedError:
            raise self._not_found(name, permitted) from None

    def _not_found(self, name: str, permitted: Permitted) -> ModelNotFoundError:
        served = ", ".join(filter(permitted, self._models))
        return ModelNotFoundError(f"the model {name[:100]!r} does not exist here", hint=f"served: {served}")

    def configured(self, name: str) -> str:
        """The configured name that a name which `find` knows stands for: it may carry a version."""
        return name if name in self._models else name.partition("@")[0]

    def named(self) -> Mapping[str, ServedModel]:
        """Every configured name with its model."""
        return self._models

    def distinct(self) -> Sequence[ServedModel]:
        """Every model once, however many names it has."""
        return list({id(model): model for model in self._models.values()}.values())


def resolve_models(config: ServeConfig) -> dict[str, Model]:
    """Find every configured model; raises ModelNotFoundError or ArtifactError naming the one that is missing."""
    registry = Registry(read_environment().resolved_tracking_uri)
    found = {reference: resolve_model(reference, registry) for reference in sorted(set(config.models.values()))}
    return {name: found[reference] for name, reference in config.models.items()}


class LocalRunners:
    """Schedulers in this process: on lanes where the encoder has them, else all on one device thread."""

    def __init__(self, batching: Batching, metrics: Metrics | None = None) -> None:
        self.meter = Meter()
        self._metrics = metrics or NoMetrics()
        self._budget = Budget(batching.tokens, batching.rows)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="device")

    def __call__(self, name: str, model: Model, encoder: Encoder) -> Runner:
        """Run items through the encoder, at last a full batch that tells how fast it is; make its scheduler."""
        count = lanes_of(encoder)
        device = self._thread if count == 1 else lanes(count)
        device.submit(_warm_up, encoder).result()
        full = encoder.prepare([_SENTENCE] * max(1, self._budget.cost // _SENTENCE_TOKENS))
        for forward in (encoder.forward, partial(self._measured, encoder, count)):
            device.submit(forward, full).result()
        on_batch = partial(record_batch, self._metrics, name)
        return Scheduler(partial(self._measured, encoder, count), device, self._budget, on_batch, count)

    def _measured(self, encoder: Encoder, lanes: int, work: Prepared) -> VectorArray:
        """Run a batch; full ones tell how fast many waiting requests would be served."""
        began = time.perf_counter()
        vectors = encoder.forward(work)
        cost = int(work.costs.sum())
        if cost >= self._budget.cost // 2:
            self.meter.add(lanes * cost, time.perf_counter() - began)
        return vectors


class Runners(Protocol):
    """Makes what runs a model; `meter` is told by all of them how fast they work."""

    meter: Meter

    def __call__(self, name: str, model: Model, encoder: Encoder) -> Runner:
        """Make the runner of the model that is served as `name`."""
        ...


def _any_encoder(_encoder: Encoder) -> None:
    pass


class ModelLoader:
    """Loads models, each distinct one once. `check` raises for an encoder that cannot be served here."""

    def __init__(self, device: Device, runners: Runners, check: Callable[[Encoder], None] = _any_encoder) -> None:
        self._device: Device = device
        self._runners = runners
        self._check = check

    def load(self, models: Mapping[str, Model]) -> dict[str, ServedModel]:
        """Load what the names lead to."""
        loaded: dict[tuple[str, str, str | None], ServedModel] = {}
        for name, model in models.items():
            identity = _identity(model)
            if identity not in loaded:
                loaded[identity] = self._loaded(model, name)
        return {name: loaded[_identity(model)] for name, model in models.items()}

    def _loaded(self, model: Model, name: str) -> ServedModel:
        encoder = model.load(self._device)
        self._check(encoder)
        version = UNVERSIONED if model.version is None else str(model.version)
        return ServedModel(encoder, self._runners(name, model, encoder), version, int(time.time()))


def _identity(model: Model) -> tuple[str, str, str | None]:
    return model.kind, model.target, model.digest


def load_models(
    models: Mapping[str, Model], device: Device, batching: Batching, metrics: Metrics | None = None
) -> ServedModels:
    """Load every model, to run in this process."""
    runners = LocalRunners(batching, metrics)
    return ServedModels(ModelLoader(device, runners).load(models), runners.meter)


def _warm_up(encoder: Encoder) -> None:
    items = [Item.of("warm up"), Item.of(series=[[0.0, 1.0, 0.0, -1.0]])]
    encoder.finish(encoder.forward(encoder.prepare(items)))
