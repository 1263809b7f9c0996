"""`lakebed serve`: the endpoint on this machine."""

from pathlib import Path
from typing import Any

import typer

from lakebed.cli import console
from lakebed.platform.config.base import read_yaml
from lakebed.platform.config.serve import INERTIAL_NAME, ServeConfig
from lakebed.platform.errors import ConfigError


def serve(
    config: Path | None = typer.Option(None, "--config", "-c", help="A serve.yaml; options here override it."),
    host: str | None = typer.Option(None, help="Address to listen on. Default: 127.0.0.1."),
    port: int | None = typer.Option(None, help="Port to listen on. Default: 8000."),
    model: list[str] | None = typer.Option(
        None, help="Model to serve, as REFERENCE or NAME=REFERENCE; repeatable. Default: lakebed-embed."
    ),
    keys: bool | None = typer.Option(
        None, "--keys/--no-keys", help="Ask for API keys; never off beyond loopback."
    ),
    key_store: str | None = typer.Option(None, help="Database URL of the API keys."),
    device: str | None = typer.Option(None, help="auto, cpu or cuda."),
) -> None:
    """Serve models behind an OpenAI-compatible endpoint, until Ctrl-C."""
    options = {
        "host": host,
        "port": port,
        "models": _models(model) if model else None,
        "require_keys": keys,
        "key_store": key_store,
        "device": device,
    }
    settings = read_config(config, options)
    from lakebed.serve.server import metrics_url, serve_until_stopped, with_ports

    settings = with_ports(settings)
    console.err.print(f"starting on http://{settings.host}:{settings.port} …")
    serve_until_stopped(settings, lambda url: _say_ready(settings, url, metrics_url(settings)))
    console.err.print("stopped")


def read_config(path: Path | None, options: dict[str, Any]) -> ServeConfig:
    """Lay the options that were given over the file; raises ConfigError."""
    values = {} if path is None else read_yaml(path) or {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected a mapping of fields, found {type(values).__name__}")
    given = {name: value for name, value in options.items() if value is not None}
    return ServeConfig.parse({**values, **given}, where=str(path or "options"))


def _models(given: list[str]) -> dict[str, str]:
    """Names to references. The first also answers to the one name that InertialAI's client can send."""
    models = {}
    for entry in given:
        name, equals, reference = entry.partition("=")
        models[name.rstrip("/").rpartition("/")[2] if not equals else name] = reference if equals else entry
    models.setdefault(INERTIAL_NAME, next(iter(models.values())))
    return models


def _say_ready(config: ServeConfig, url: str, metrics: str) -> None:
    name = next(iter(config.models))
    key = ' -H "Authorization: Bearer $LAKEBED_API_KEY"' if config.require_keys else ""
    console.out.print(f"ready: {url}/v1 serves {', '.join(config.models)}", markup=False)
    console.err.print(
        f"try:   curl {url}/v1/embeddings{key} -H 'Content-Type: application/json' "
        f'-d \'{{"model": "{name}", "input": "a pump that rattles"}}\'',
        markup=False,
    )
    console.err.print(f"metrics: {metrics}", markup=False)
    if config.require_keys:
        console.err.print("a key: export LAKEBED_API_KEY=$(lakebed keys create --name me)", markup=False)
