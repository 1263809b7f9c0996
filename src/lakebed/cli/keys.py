"""`lakebed keys`: who may use the endpoint."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.table import Table

from lakebed.cli import console
from lakebed.cli.serve import read_config

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from lakebed.serve.store.keys import Key

keys = typer.Typer(help="Make, list and revoke the endpoint's API keys.", no_args_is_help=True)

_CONFIG = typer.Option(None, "--config", "-c", help="The serve.yaml that names the key store.")
_STORE = typer.Option(None, "--key-store", help="Database URL of the keys. Default: SQLite under LAKEBED_HOME.")


@keys.command("create")
def create(
    name: str = typer.Option(..., help="Who or what will use it."),
    days: int | None = typer.Option(None, min=1, help="Days until it expires. Default: never."),
    config: Path | None = _CONFIG,
    key_store: str | None = _STORE,
) -> None:
    """Make a key and print it. It is shown this once and kept only as a hash."""
    from lakebed.serve.store.keys import create_key

    with _store(config, key_store) as engine:
        secret, key = create_key(engine, name, None if days is None else timedelta(days=days))
    console.out.print(secret, markup=False)
    expiry = f"expires {key.expires:%Y-%m-%d}" if key.expires else "does not expire"
    console.err.print(f"key {key.id} for {name} {expiry}; it cannot be shown again", markup=False)


@keys.command("list")
def list_(config: Path | None = _CONFIG, key_store: str | None = _STORE) -> None:
    """List every key, those that no longer work included."""
    from lakebed.serve.store.keys import list_keys

    with _store(config, key_store) as engine:
        found = list_keys(engine)
    table = Table("id", "begins", "name", "created", "expires", "state", box=None)
    for key in found:
        created, expires = f"{key.created:%Y-%m-%d %H:%M}", f"{key.expires:%Y-%m-%d}" if key.expires else "never"
        table.add_row(key.id, f"{key.prefix}…", key.name, created, expires, _state(key))
    console.out.print(table)


@keys.command("revoke")
def revoke(
    key: str = typer.Argument(help="The key's id, or its beginning as `list` shows it."),
    config: Path | None = _CONFIG,
    key_store: str | None = _STORE,
) -> None:
    """Revoke a key for good; running servers refuse it within seconds."""
    from lakebed.serve.store.keys import revoke_key

    with _store(config, key_store) as engine:
        revoked = revoke_key(engine, key.removesuffix("…"))
    console.out.print(f"revoked {revoked.id} ({revoked.name})", markup=False)


@contextmanager
def _store(config: Path | None, key_store: str | None) -> Iterator["Engine"]:
    from lakebed.serve.store.database import default_url, open_database

    settings = read_config(config, {"key_store": key_store})
    engine = open_database(settings.key_store or default_url())
    yield engine
    engine.dispose()


def _state(key: "Key") -> str:
    if key.revoked:
        return f"revoked {key.revoked:%Y-%m-%d %H:%M}"
    return "works" if key.works_at(datetime.now(UTC)) else "expired"
