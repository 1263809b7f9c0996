"""`lakebed serve`: the endpoint on this machine, how it stands, its end; the file that puts it on a cluster."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from lakebed.cli import console
from lakebed.platform.config.base import read_yaml
from lakebed.platform.config.serve import INERTIAL_NAME, ServeConfig
from lakebed.platform.errors import ConfigError, NotFoundError

if TYPE_CHECKING:
    from lakebed.serve.pid_file import ServerRecord
    from lakebed.serve.status import ServerStatus

app = typer.Typer(help="Serve models behind an OpenAI-compatible endpoint, until Ctrl-C.")

_NOT_READY = 4
"""Exit code of `status` for a server that does not answer, as for everything that does not."""

_CONFIG = typer.Option(None, "--config", "-c", help="A serve.yaml; options here override it.")
_HOST = typer.Option(None, help="Address it listens on. Default: 127.0.0.1.")
_PORT = typer.Option(None, help="Port it listens on. Default: 8000.")


@app.callback(invoke_without_command=True)
def serve(
    context: typer.Context,
    config: Path | None = _CONFIG,
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
    if context.invoked_subcommand is not None:
        if config is not None or any(value is not None for value in options.values()):
            raise ConfigError(f"options of `serve {context.invoked_subcommand}` are written after it")
        return
    settings = read_config(config, options)
    from lakebed.serve.server import metrics_url, serve_until_stopped, with_ports

    settings = with_ports(settings)
    console.err.print(f"starting on http://{settings.host}:{settings.port} …")
    serve_until_stopped(settings, lambda url: _say_ready(settings, url, metrics_url(settings)))
    console.err.print("stopped")


@app.command("status")
def status(
    config: Path | None = _CONFIG,
    host: str | None = _HOST,
    port: int | None = _PORT,
    json: bool = typer.Option(False, "--json", help="Print one JSON object."),
) -> None:
    """Say how the server of this machine stands. Exit code 0 when it is ready, 4 when not, 3 when there is none.

    A server that asks for keys tells its models as they are now only to a key: LAKEBED_API_KEY.
    """
    record = _running(config, host, port)
    from lakebed.serve.status import server_status

    found = server_status(record, os.environ.get("LAKEBED_API_KEY"))
    if json:
        console.out.print(found.model_dump_json(indent=1), markup=False)
    else:
        _say_status(found)
    if found.state != "ready":
        raise typer.Exit(_NOT_READY)


@app.command("stop")
def stop(
    config: Path | None = _CONFIG,
    host: str | None = _HOST,
    port: int | None = _PORT,
    timeout: float = typer.Option(60, min=0, help="Seconds to wait until it has ended."),
) -> None:
    """End the server of this machine, once what was asked is answered, and wait until it is gone."""
    record = _running(config, host, port)
    from lakebed.serve.pid_file import stop_server

    stop_server(record, timeout)
    console.out.print(f"stopped {record.url}, pid {record.pid}", markup=False)


@app.command("build")
def build(
    config: Path | None = _CONFIG,
    output: Path | None = typer.Option(None, "--output", "-o", help="File to write. Default: standard output."),
) -> None:
    """Write the Serve config file that puts the endpoint on a Ray cluster with `serve deploy`."""
    settings = read_config(config, {})
    from lakebed.serve.cluster_file import cluster_file

    text, notes = cluster_file(settings)
    if output is None:
        typer.echo(text, nl=False)
    else:
        output.write_text(text, encoding="utf-8")
        console.err.print(f"wrote {output}: RAY_DASHBOARD_ADDRESS=http://HOST:8265 serve deploy {output}")
    for note in notes:
        console.err.print(f"note: {note}", markup=False)


def read_config(path: Path | None, options: dict[str, Any]) -> ServeConfig:
    """Lay the options that were given over the file; raises ConfigError."""
    values = {} if path is None else read_yaml(path) or {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected a mapping of fields, found {type(values).__name__}")
    given = {name: value for name, value in options.items() if value is not None}
    return ServeConfig.parse({**values, **given}, where=str(path or "options"))


def _running(path: Path | None, host: str | None, port: int | None) -> "ServerRecord":
    """The living server of this configuration; raises NotFoundError that names those there are."""
    from lakebed.serve.pid_file import find_server, find_servers

    # A host of its own must not fail for want of keys: what is looked for may have been started otherwise.
    settings = read_config(path, {"port": port})
    host = host or settings.host
    record = find_server(host, settings.port)
    if record is None:
        others = [f"--host {other.host} --port {other.port}" for other in find_servers()]
        raise NotFoundError(
            f"no server of this LAKEBED_HOME runs for {host}:{settings.port}",
            hint=f"there is: {'; '.join(others)}" if others else "`lakebed serve` starts one",
        )
    return record


def _models(given: list[str]) -> dict[str, str]:
    """Names to references. The first also answers to the one name that InertialAI's client can send."""
    models = {}
    for entry in given:
        name, equals, reference = entry.partition("=")
        models[name.rstrip("/").rpartition("/")[2] if not equals else name] = reference if equals else entry
    models.setdefault(INERTIAL_NAME, next(iter(models.values())))
    return models


def _say_status(found: "ServerStatus") -> None:
    up = sum(replica.up for replica in found.replicas)
    console.out.print(f"{found.state}: {found.url}, pid {found.pid}, since {found.since:%Y-%m-%d %H:%M} UTC")
    console.out.print(
        f"replicas: {up} of {len(found.replicas)} up, {found.requests} requests inside", markup=False
    )
    console.out.print("models:" if found.models_now else "models when it started:")
    for model in found.models:
        line = f"  {model.name}  {model.version or 'unversioned'}  {(model.digest or '')[:12]}"
        console.out.print(line.rstrip(), markup=False)


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
