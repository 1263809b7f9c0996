"""From configuration to a Serve application, colocated: the replica that speaks HTTP holds the encoder.

`build` resolves models and so says at once when one is missing; replicas load them.
"""

import os
from collections.abc import Mapping
from typing import Any, Final

from fastapi import FastAPI
from ray import serve
from ray.serve import Application

from lakebed.platform.config.serve import ServeConfig
from lakebed.platform.encoder.load import Model
from lakebed.serve.api import create_api
from lakebed.serve.auth import Authenticator, NoKeys, StoredKeys
from lakebed.serve.models import load_models, resolve_models
from lakebed.serve.service import Service
from lakebed.serve.store.database import connect, default_url

APP_NAME: Final = "lakebed"

_MOST_REQUESTS_INSIDE: Final = 4096
"""Serve's own gate stays out of the way: admission counts tokens, not requests."""


class Endpoint:
    """One replica."""

    def __init__(self, config: ServeConfig, models: Mapping[str, Model], key_store: str) -> None:
        authenticator: Authenticator = (
            StoredKeys(connect(key_store), config.key_cache_seconds) if config.require_keys else NoKeys()
        )
        loaded = load_models(models, config.device, config.batching)
        self._service = Service(loaded, authenticator, config.limits)

    def __serve_build_asgi_app__(self) -> FastAPI:
        return create_api(self._service, request_ids_echoed=True)

    async def check_health(self) -> None:
        """Serve asks every ten seconds and replaces a replica that cannot embed."""
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
    )
    ingress: Any = deployment(serve.ingress()(Endpoint))
    application: Application = ingress.bind(
        config, models or resolve_models(config), config.key_store or default_url()
    )
    return application


def _resources(config: ServeConfig) -> dict[str, float]:
    """An equal share of this machine's cores for each replica; Ray sizes torch's thread pool by it."""
    cores = len(os.sched_getaffinity(0))
    return {"num_cpus": max(1, cores // config.replicas), "num_gpus": 1 if config.device == "cuda" else 0}
