"""From configuration to a Serve application, colocated: the replica that speaks HTTP holds the encoder.

`build` resolves models and so says at once when one is missing; replicas load them.
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


class Endpoint:
    """One replica."""

    def __init__(self, config: ServeConfig, models: Mapping[str, Model], key_store: str) -> None:
        authenticator: Authenticator = (
            StoredKeys(
                connect(key_store),
                config.key_cache_seconds,
                failures_per_minute=config.key_limits.failures_per_minute,
            )
            if config.require_keys
            else NoKeys()
        )
        replica = serve.get_replica_context().replica_id.unique_id
        join_serve_log(config.log_level, Path(get_serve_logs_dir()), replica)
        metrics = RayMetrics(replica)
        loader = ModelLoader(config.device, config.batching, metrics)
        served = ServedModels(loader.load(models))
        self._authority = RayAuthority(_AUTHORITY) if config.replicas > 1 and config.require_keys else None
        limiter = None if self._authority is None else LeasedLimiter(self._authority, config.replicas)
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
        return create_api(self._service)

    async def check_health(self) -> None:
        """Serve asks every ten seconds and replaces a replica that cannot embed."""
        if self._authority is not None:
            with contextlib.suppress(AuthorityLostError):  # limits hold without it, if less exactly
                await self._authority.greet()
        await self._service.probe()


def build(config: ServeConfig, models: Mapping[str, Model] | None = None) -> Application:
    """Make the application; raises ModelNotFoundError or ArtifactError when a model is not to be had.

    `models` are those of the configuration, if they have been resolved already. They are named by their folders
    here, so this serves the machine it runs on.
    """
    deployment = serve.deployment(
        name="endpoint",
        num_replicas=config.replicas,
        max_ongoing_requests=_MOST_REQUESTS_INSIDE,
        graceful_shutdown_timeout_s=config.drain_seconds,
        ray_actor_options=_resources(config),
        logging_config=logging_config(config),
    )
    ingress: Any = deployment(serve.ingress()(Endpoint))
    application: Application = ingress.bind(
        config, models or resolve_models(config), config.key_store or default_url()
    )
    return application


def logging_config(config: ServeConfig) -> LoggingConfig:
    """JSON lines from Serve's own processes too; its access log goes, as ours says more."""
    return LoggingConfig(encoding="JSON", log_level=config.log_level, enable_access_log=False)


def _resources(config: ServeConfig) -> dict[str, float]:
    """An equal share of this machine's cores for each replica; Ray sizes torch's thread pool by it."""
    cores = len(os.sched_getaffinity(0))
    return {"num_cpus": max(1, cores // config.replicas), "num_gpus": 1 if config.device == "cuda" else 0}
