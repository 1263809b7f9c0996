"""`lakebed keys`: who may use the endpoint."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.table import Column, Table

from lakebed.cli import console
from lakebed.cli.serve import read_config

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from lakebed.serve.store.keys import Key, Terms

keys = typer.Typer(help="Make, list, change and revoke the endpoint's API keys.", no_args_is_help=True)

_CONFIG = typer.Option(None, "--config", "-c", help="The serve.yaml that names the key store.")
_STORE = typer.Option(None, "--key-store", help="Database URL of the keys. Default: SQLite under LAKEBED_HOME.")


@keys.command("create")
def create(
    name: str = typer.Option(..., help="Who or what will use it."),
    days: int | None = typer.Option(None, min=1, help="Days until it expires. Default: never."),
    models: str | None = typer.Option(None, help="Models it may use, as A,B. Default: all."),
    admin: bool = typer.Option(False, "--admin", help="It may use administrative routes."),
    rpm: int | None = typer.Option(None, min=1, help="Requests a minute. Default: the server's."),
    tpm: int | None = typer.Option(None, min=1, help="Token equivalents a minute. Default: the server's."),
    config: Path | None = _CONFIG,
    key_store: str | None = _STORE,
) -> None:
    """Make a key and print it. It is shown this once and kept only as a hash."""
    from lakebed.serve.store.keys import Terms, create_key

    terms = Terms(None if models is None else _names(models), admin, rpm, tpm)
    with _store(config, key_store) as engine:
        secret, key = create_key(engine, name, None if days is None else timedelta(days=days), terms)
    console.out.print(secret, markup=False)
    expiry = f"expires {key.expires:%Y-%m-%d}" if key.expires else "does not expire"
    console.err.print(f"key {key.id} for {name} {expiry}; it cannot be shown again", markup=False)


@keys.command("list")
def list_(config: Path | None = _CONFIG, key_store: str | None = _STORE) -> None:
    """List every key, those that no longer work included."""
    from lakebed.serve.store.keys import list_keys

    with _store(config, key_store) as engine:
        found = list_keys(engine)
    whole = (Column("id", min_width=20), Column("begins", min_width=10))  # what other commands are given
    table = Table(*whole, "name", "created", "expires", "state", "may use", "rpm", "tpm", box=None)
    for key in found:
        created, expires = f"{key.created:%Y-%m-%d %H:%M}", f"{key.expires:%Y-%m-%d}" if key.expires else "never"
        limits = [_limit(key.terms.requests_per_minute), _limit(key.terms.tokens_per_minute)]
        names = [key.id, f"{key.prefix}…", key.name]
        table.add_row(*names, created, expires, _state(key), _scopes(key.terms), *limits)
    console.out.print(table)


@keys.command("update")
def update(
    key: str = typer.Argument(help="The key's id, or its beginning as `list` shows it."),
    models: str | None = typer.Option(None, help="Models it may use, as A,B; an empty string: all."),
    admin: bool | None = typer.Option(None, "--admin/--no-admin", help="It may use administrative routes."),
    rpm: int | None = typer.Option(None, min=0, help="Requests a minute; 0: the server's default."),
    tpm: int | None = typer.Option(None, min=0, help="Token equivalents a minute; 0: the server's default."),
    config: Path | None = _CONFIG,
    key_store: str | None = _STORE,
) -> None:
    """Change what a key may do, and leave the rest; running servers know within seconds."""
    from lakebed.serve.store.keys import update_key

    changes: dict[str, Any] = {} if admin is None else {"admin": admin}
    if models is not None:
        changes["models"] = _names(models) if models.strip() else None
    if rpm is not None:
        changes["requests_per_minute"] = rpm or None
    if tpm is not None:
        changes["tokens_per_minute"] = tpm or None
    with _store(config, key_store) as engine:
        updated = update_key(engine, key.removesuffix("…"), lambda terms: replace(terms, **changes))
    terms = updated.terms
    limits = f"rpm {_limit(terms.requests_per_minute)}, tpm {_limit(terms.tokens_per_minute)}"
    console.out.print(f"{updated.id} ({updated.name}): {_scopes(terms)}; {limits}", markup=False)


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


def _names(given: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in given.split(","))


def _scopes(terms: "Terms") -> str:
    models = "all models" if terms.models is None else ", ".join(terms.models)
    return f"{models}; admin" if terms.admin else models


def _limit(limit: int | None) -> str:
    return "default" if limit is None else f"{limit:,}"


def _state(key: "Key") -> str:
    if key.revoked:
        return f"revoked {key.revoked:%Y-%m-%d %H:%M}"
    return "works" if key.works_at(datetime.now(UTC)) else "expired"
