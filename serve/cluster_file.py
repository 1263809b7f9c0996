"""From configuration to a Serve config file, which puts the endpoint on a Ray cluster (`serve deploy`).

The file holds the configuration as arguments of `app.deploy`, which Serve calls there. So it may name only what
the cluster finds by itself, and holds no secret: Serve keeps it and writes it to its logs.
"""

from collections.abc import Iterator
from typing import Final

import yaml
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from lakebed import __version__
from lakebed.platform.config.environment import read_environment
from lakebed.platform.config.serve import ServeConfig, is_loopback
from lakebed.platform.encoder.load import Model, names_a_folder, resolve_model
from lakebed.platform.errors import ConfigError, ModelNotFoundError
from lakebed.platform.registry import Registry
from lakebed.serve.server import SERVE_VARIABLES

_IMPORT_PATH: Final = "lakebed.serve.app:deploy"

_VARIABLES: Final = {
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "OMP_WAIT_POLICY": "PASSIVE",
}
"""What `lakebed` sets for its own processes; none of it is a secret."""

_HEADER: Final = """\
# The endpoint on a Ray cluster, written by `lakebed serve build` (lakebed {version}):
#
#   RAY_DASHBOARD_ADDRESS=http://HOST:8265 RAY_AUTH_MODE=token serve deploy THIS_FILE
#
# Every node needs lakebed installed (cluster.yaml does it), since Serve ships only code that has a URI, and these
# in its environment before `ray start`, since Serve reads them at import:
#
{variables}
#
# Secrets do not belong here, Serve writes this file to its logs: give the nodes PGPASSWORD for the key store,
# MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD for the registry.
"""


def cluster_file(config: ServeConfig) -> tuple[str, list[str]]:
    """Return the file's text, and what is worth knowing about it, a line each.

    Raises ConfigError, saying what to do, when a cluster could not find a model or a key store.
    """
    _check_key_store(config)
    tracking = _tracking_uri()
    registry = None if tracking is None else Registry(tracking)
    models = {name: _model(reference, registry) for name, reference in config.models.items()}
    content = {
        "proxy_location": "EveryNode",
        "http_options": {"host": config.host, "port": config.port},
        "logging_config": {"encoding": "JSON"},
        "applications": [
            {
                "name": "lakebed",
                "route_prefix": "/",
                "import_path": _IMPORT_PATH,
                "runtime_env": {
                    "env_vars": {**_VARIABLES, **({"LAKEBED_TRACKING_URI": tracking} if tracking else {})}
                },
                "args": config.model_dump(mode="json"),
            }
        ],
    }
    header = _HEADER.format(
        version=__version__,
        variables="\n".join(f"#   {name}={value!r}" for name, value in SERVE_VARIABLES.items()),
    )
    return header + yaml.safe_dump(content, sort_keys=False), list(_notes(config, models))


def _tracking_uri() -> str | None:
    """The MLflow server that a cluster can ask too, if one is configured."""
    uri = read_environment().resolved_tracking_uri
    if not uri.startswith(("http://", "https://")):
        return None
    if "@" in uri:
        raise ConfigError(
            "LAKEBED_TRACKING_URI holds a password, which would be written to the file",
            hint="leave it out, and give the nodes MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD",
        )
    return uri


def _model(reference: str, registry: Registry | None) -> Model:
    """What a reference names here, now; raises ConfigError unless it names the same on a cluster."""
    if names_a_folder(reference):
        raise ConfigError(
            f"model {reference!r}: a folder of this machine means nothing on a cluster",
            hint=f"`lakebed register {reference} --name NAME`, then serve NAME or NAME@VERSION",
        )
    try:
        return resolve_model(reference, registry)
    except ModelNotFoundError:
        if registry is not None:
            raise
        raise ConfigError(
            f"model {reference!r}: the registry of this machine is none that a cluster can ask",
            hint="set LAKEBED_TRACKING_URI to the URL of an MLflow server, and register the model there",
        ) from None


def _check_key_store(config: ServeConfig) -> None:
    if not config.require_keys:
        return
    hint = "key_store: postgresql+psycopg://USER@HOST/DATABASE"
    try:
        url = make_url(config.key_store or "sqlite://")
    except ArgumentError as error:
        raise ConfigError(f"key_store: {error}", hint=hint) from None
    if url.get_backend_name() == "sqlite":
        raise ConfigError("every node of a cluster has to reach the key store: SQLite is a file of one", hint=hint)
    if url.password is not None:
        raise ConfigError(
            "key_store: holds a password, which would be written to the file and to Serve's logs",
            hint="leave it out, and give the cluster's nodes PGPASSWORD",
        )


def _notes(config: ServeConfig, models: dict[str, Model]) -> Iterator[str]:
    for name, model in models.items():
        version = "unversioned" if model.version is None else f"version {model.version}"
        yield f"{name} is {model.reference}: at the moment {version}, digest {(model.digest or 'unknown')[:12]}"
    if is_loopback(config.host):
        yield f"host is {config.host}: replicas on other nodes than the front door's cannot be reached"
    if config.replicas.cpus is None:
        yield "replicas.cpus is not set: every replica gets one core"
