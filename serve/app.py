"""From configuration to a Serve application: colocated, where the replica that speaks HTTP holds the encoders, or
split, where it asks replicas of each model.

`build` is for the machine it runs on: it resolves models and so says at once when one is missing; replicas load
them. `deploy` is for a cluster, called there by Serve with the arguments that a file of `lakebed serve build`
holds: each replica finds the models from where it runs.
"""

import contextlib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from fastapi import FastAPI
from ray import serve
from ray.serve import Application
from ray.serve._private.logging_utils import get_serve_logs_dir
from ray.serve.schema import LoggingConfig

from lakebed.platform.config.serve import Replicas, ServeConfig
from lakebed.platform.encoder.load import Model
from lakebed.platform.encoder.prepared import Prepared
from lakebed.serve.api import create_api
from lakebed.serve.auth import Authenticator, NoKeys, StoredKeys
from lakebed.serve.autoscaling import QUEUED_TOKENS, autoscaling_config
from lakebed.serve.cache import EmbeddingCache
from lakebed.serve.following import follow
from lakebed.serve.key_limits import KeyRates
from lakebed.serve.limit_authority import RayAuthority
from lakebed.serve.limiters import AuthorityLostError, LeasedLimiter
from lakebed.serve.logs import join_serve_log
from lakebed.serve.models import LocalRunners, ModelLoader, ServedModels, resolve_models
from lakebed.serve.ray_metrics import RayMetrics
from lakebed.serve.service import Service
from lakebed.serve.split import Forwarded, ModelServer, RemoteRunners
from lakebed.serve.store.database import connect, default_url
from lakebed.serve.tokens import token_reader

APP_NAME: Final = "lakebed"

_AUTHORITY: Final = f"{APP_NAME}-rate-limits"

_MOST_REQUESTS_INSIDE: Final = 4096
"""Serve's own gate stays out of the way: admission counts tokens, not requests."""


_SURGE_PERCENT: Final = 25
"""When the application changes, so many new replicas start before old ones end. Serve's default: after."""


class Endpoint:
    """One replica that speaks HTTP. `servers` are handles of `ModelReplica` by served name; none if colocated."""

    def __init__(
        self,
        config: ServeConfig,
        models: Mapping[str, Model] | None,
        key_store: str,
        servers: Mapping[str, Any] | None = None,
    ) -> None:
        authenticator: Authenticator = (
            StoredKeys(
                connect(key_store),
                config.key_cache_seconds,
                failures_per_minute=config.key_limits.failures_per_minute,
            )
            if config.require_keys
            else NoKeys()
        )
        models = models or resolve_models(config)
        replica = serve.get_replica_context().replica_id.unique_id
        join_serve_log(config.log_level, Path(get_serve_logs_dir()), replica)
        metrics = RayMetrics(replica)
        runners = RemoteRunners(servers, config) if servers else LocalRunners(config.batching, metrics)
        tokens = token_reader(config.token_input)
        loader = ModelLoader("cpu" if servers else config.device, runners, tokens.check)
        served = ServedModels(loader.load(models), runners.meter)
        replicas = config.http_replicas.max
        self._authority = RayAuthority(_AUTHORITY) if replicas > 1 and config.require_keys else None
        limiter = None if self._authority is None else LeasedLimiter(self._authority, replicas)
        self._service = Service(
            served,
            authenticator,
            config.limits,
            tokens=tokens,
            key_rates=KeyRates(config.key_limits, limiter),
            metrics=metrics,
            cache=EmbeddingCache(config.cache_bytes) if config.cache_bytes else None,
        )
        follow(served, models, loader, config.follow_seconds)

    def __serve_build_asgi_app__(self) -> FastAPI:
        return create_api(self._service, request_ids_echoed=True)

    async def check_health(self) -> None:
        """Serve asks every ten seconds and replaces a replica that cannot embed."""
        if self._authority is not None:
            with contextlib.suppress(AuthorityLostError):  # limits hold without it, if less exactly
                await self._authority.greet()
        await self._service.probe()

    def record_autoscaling_stats(self) -> dict[str, float]:
        """What Serve asks for when replicas come and go with the load."""
        return {QUEUED_TOKENS: float(self._service.queued_tokens)}


class ModelReplica:
    """One replica of one model, in the split shape."""

    def __init__(self, config: ServeConfig, name: str, model: Model | None) -> None:
        metrics = RayMetrics(serve.get_replica_context().replica_id.unique_id)
        self._server = ModelServer(config, name, model or resolve_models(config)[name], metrics)

    async def forward(self, reference: str, digest: str, work: Prepared, owner: str) -> Forwarded:
        """Run one part of a request."""
        return await self._server.forward(reference, digest, work, owner)

    async def check_health(self) -> None:
        """Serve asks every ten seconds and replaces a replica that cannot embed."""
        await self._server.check()

    def record_autoscaling_stats(self) -> dict[str, float]:
        """What Serve asks for when replicas come and go with the load."""
        return {QUEUED_TOKENS: float(self._server.queued_tokens)}


def build(config: ServeConfig, models: Mapping[str, Model] | None = None) -> Application:
    """Make the application; raises ModelNotFoundError or ArtifactError when a model is not to be had.

    `models` are those of the configuration, if they have been resolved already. They are named by their folders
    here, so this serves the machine it runs on.
    """
    return _application(config, models or resolve_models(config), cores=len(os.sched_getaffinity(0)))


def deploy(config: ServeConfig) -> Application:
    """Make the application on a cluster; Serve calls it by its import path."""
    return _application(config, None, cores=1)


def cpus_needed(config: ServeConfig, cores: int) -> int:
    """The cores that all replicas together ask Ray for on a machine with `cores`; maybe more than there are."""
    if config.shape == "colocated":
        return config.replicas.max * _cpus(config.replicas, cores)
    replicas = map(config.model_replicas, config.names_by_model())
    return config.ingress_replicas + sum(one.max * _cpus(one, cores) for one in replicas)


def _application(config: ServeConfig, models: Mapping[str, Model] | None, *, cores: int) -> Application:
    arguments = (config, models, config.key_store or default_url())
    if config.shape == "colocated":
        endpoint = _deployment(Endpoint, "endpoint", config, config.replicas, cores, gpu=config.device == "cuda")
        return _bound(endpoint, *arguments)
    servers = _model_servers(config, models, cores)
    return _bound(
        _deployment(Endpoint, "endpoint", config, config.http_replicas, 1, gpu=False), *arguments, servers
    )


def _model_servers(config: ServeConfig, models: Mapping[str, Model] | None, cores: int) -> dict[str, Application]:
    """A deployment for each distinct model, by every name that is served."""
    servers: dict[str, Application] = {}
    for number, (name, names) in enumerate(config.names_by_model().items()):
        replicas = config.model_replicas(name)
        label = f"model-{number}-{re.sub('[^A-Za-z0-9]+', '-', name)}"
        server = _deployment(ModelReplica, label, config, replicas, cores, gpu=config.device == "cuda")
        bound = _bound(server, config, name, models[name] if models else None)
        servers |= dict.fromkeys(names, bound)
    return servers


def _cpus(replicas: Replicas, cores: int) -> int:
    """Cores of one replica: what is asked for, or an equal share."""
    return replicas.cpus or max(1, cores // replicas.max)


def _deployment(kind: type, name: str, config: ServeConfig, replicas: Replicas, cores: int, *, gpu: bool) -> Any:
    scaling: dict[str, Any] = (
        {"autoscaling_config": autoscaling_config(replicas)} if replicas.vary else {"num_replicas": replicas.min}
    )
    deployment: Any = serve.deployment(
        name=name,
        max_ongoing_requests=_MOST_REQUESTS_INSIDE,
        graceful_shutdown_timeout_s=config.drain_seconds,
        logging_config=logging_config(config),
        rolling_update_percentage=_SURGE_PERCENT / 100,
        max_surge_percent=_SURGE_PERCENT,
        # Ray sizes torch's thread pool by its cores.
        ray_actor_options={"num_cpus": _cpus(replicas, cores), "num_gpus": 1 if gpu else 0},
        **scaling,
    )
    return deployment(serve.ingress()(kind) if kind is Endpoint else kind)


def _bound(deployment: Any, *arguments: Any) -> Application:
    application: Application = deployment.bind(*arguments)
    return application


def logging_config(config: ServeConfig) -> LoggingConfig:
    """JSON lines from Serve's own processes too; its access log goes, as ours says more."""
    return LoggingConfig(encoding="JSON", log_level=config.log_level, enable_access_log=False)
