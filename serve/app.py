"""From configuration to a Serve application, colocated: the replica that speaks HTTP holds the encoder.

`build` is for the machine it runs on: it resolves models and so says at once when one is missing; replicas load
them. `deploy` is for a cluster, called there by Serve with the arguments that a file of `lakebed serve build`
holds: each replica finds the models from where it runs.
"""

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from fastapi import FastAPI
from ray import serve
from ray.serve import Application
from ray.serve._private.logging_utils import get_serve_logs_dir
from ray.serve.schema import LoggingConfig

from lakebed.platform.config.serve import ServeConfig
from lakebed.platform.encoder.load import Model
from lakebed.serve.api import create_api
from lakebed.serve.auth import Authenticator, NoKeys, StoredKeys
from lakebed.serve.autoscaling import QUEUED_TOKENS, autoscaling_config
from lakebed.serve.cache import EmbeddingCache
from lakebed.serve.following import follow
from lakebed.serve.key_limits import KeyRates
from lakebed.serve.limit_authority import RayAuthority
from lakebed.serve.limiters import AuthorityLostError, LeasedLimiter
from lakebed.serve.logs import join_serve_log
from lakebed.serve.models import ModelLoader, ServedModels, resolve_models
from lakebed.serve.ray_metrics import RayMetrics
from lakebed.serve.service import Service
from lakebed.serve.store.database import connect, default_url
from lakebed.serve.tokens import token_reader

APP_NAME: Final = "lakebed"

_AUTHORITY: Final = f"{APP_NAME}-rate-limits"

_MOST_REQUESTS_INSIDE: Final = 4096
"""Serve's own gate stays out of the way: admission counts tokens, not requests."""


_SURGE_PERCENT: Final = 25
"""When the application changes, so many new replicas start before old ones end. Serve's default: after."""


class Endpoint:
    """One replica."""

    def __init__(self, config: ServeConfig, models: Mapping[str, Model] | None, key_store: str) -> None:
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
        loader = ModelLoader(config.device, config.batching, metrics)
        served = ServedModels(loader.load(models))
        replicas = config.replicas.max
        self._authority = RayAuthority(_AUTHORITY) if replicas > 1 and config.require_keys else None
        limiter = None if self._authority is None else LeasedLimiter(self._authority, replicas)
        self._service = Service(
            served,
            authenticator,
            config.limits,
            tokens=token_reader(config.token_input),
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


def build(config: ServeConfig, models: Mapping[str, Model] | None = None) -> Application:
    """Make the application; raises ModelNotFoundError or ArtifactError when a model is not to be had.

    `models` are those of the configuration, if they have been resolved already. They are named by their folders
    here, so this serves the machine it runs on.
    """
    share = max(1, len(os.sched_getaffinity(0)) // config.replicas.max)
    return _application(config, models or resolve_models(config), cpus=config.replicas.cpus or share)


def deploy(config: ServeConfig) -> Application:
    """Make the application on a cluster; Serve calls it by its import path."""
    return _application(config, None, cpus=config.replicas.cpus or 1)


def _application(config: ServeConfig, models: Mapping[str, Model] | None, *, cpus: int) -> Application:
    scaling: dict[str, Any] = (
        {"autoscaling_config": autoscaling_config(config.replicas)}
        if config.replicas.vary
        else {"num_replicas": config.replicas.min}
    )
    deployment = serve.deployment(
        name="endpoint",
        max_ongoing_requests=_MOST_REQUESTS_INSIDE,
        graceful_shutdown_timeout_s=config.drain_seconds,
        logging_config=logging_config(config),
        rolling_update_percentage=_SURGE_PERCENT / 100,
        max_surge_percent=_SURGE_PERCENT,
        # Ray sizes torch's thread pool by its cores.
        ray_actor_options={"num_cpus": cpus, "num_gpus": 1 if config.device == "cuda" else 0},
        **scaling,
    )
    ingress: Any = deployment(serve.ingress()(Endpoint))
    application: Application = ingress.bind(config, models, config.key_store or default_url())
    return application


def logging_config(config: ServeConfig) -> LoggingConfig:
    """JSON lines from Serve's own processes too; its access log goes, as ours says more."""
    return LoggingConfig(encoding="JSON", log_level=config.log_level, enable_access_log=False)
