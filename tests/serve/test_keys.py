"""The key store and what `lakebed keys` does with it."""

import hashlib
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import make_url
from typer.testing import CliRunner

from lakebed.cli.app import app
from lakebed.platform.errors import ConfigError, LakebedError, NotFoundError, UnreachableError
from lakebed.serve.auth import StoredKeys
from lakebed.serve.errors import UnauthorizedError
from lakebed.serve.store.database import open_database
from lakebed.serve.store.keys import create_key, find_key, list_keys, revoke_key
from lakebed.serve.store.schema import Base


def check(authenticator: StoredKeys, secret: str) -> str:
    import asyncio

    return asyncio.run(authenticator.check(f"Bearer {secret}")).name


def test_a_key_is_found_by_its_secret_alone(key_store: str) -> None:
    engine = open_database(key_store)
    secret, key = create_key(engine, "me")
    assert find_key(engine, secret) == key
    assert find_key(engine, secret + "x") is None
    assert find_key(engine, key.prefix) is None


def test_the_secret_is_nowhere_in_the_database(key_store: str) -> None:
    secret, key = create_key(open_database(key_store), "me")
    path = make_url(key_store).database
    assert path is not None
    with sqlite3.connect(path) as connection:
        dump = "\n".join(connection.iterdump())
    assert secret not in dump
    assert hashlib.sha256(secret.encode()).hexdigest() in dump
    assert secret.startswith(key.prefix)
    assert len(secret) - len(key.prefix) >= 32


def test_an_expired_key_is_refused(key_store: str) -> None:
    engine = open_database(key_store)
    secret, key = create_key(engine, "me", timedelta(days=1))
    assert key.expires is not None
    assert key.works_at(datetime.now(UTC))
    assert not key.works_at(key.expires)
    old, _ = create_key(engine, "old", timedelta(days=-1))
    assert check(StoredKeys(engine, 1.0), secret) == "me"
    with pytest.raises(UnauthorizedError, match="expired"):
        check(StoredKeys(engine, 1.0), old)


def test_a_revoked_key_is_refused_when_what_was_remembered_is_too_old(key_store: str) -> None:
    now = 0.0
    engine = open_database(key_store)
    secret, key = create_key(engine, "me")
    authenticator = StoredKeys(engine, 2.0, clock=lambda: now)
    assert check(authenticator, secret) == "me"
    revoke_key(engine, key.id)
    now = 1.9
    assert check(authenticator, secret) == "me"
    now = 2.0
    with pytest.raises(UnauthorizedError, match="revoked"):
        check(authenticator, secret)


def test_revoking_takes_an_id_or_a_prefix_and_keeps_the_first_date(key_store: str) -> None:
    engine = open_database(key_store)
    _, key = create_key(engine, "me")
    first = revoke_key(engine, key.prefix)
    assert revoke_key(engine, key.id) == first
    with pytest.raises(NotFoundError, match="no key"):
        revoke_key(engine, "key_nothing")


def test_the_migrations_make_what_the_schema_says(key_store: str) -> None:
    with open_database(key_store).connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []


def test_opening_again_keeps_the_keys(key_store: str) -> None:
    create_key(open_database(key_store), "me")
    assert [key.name for key in list_keys(open_database(key_store))] == ["me"]


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("nonsense", ConfigError),
        ("nosuchdb://host/db", ConfigError),
        ("postgresql+nosuchdriver://host/db", ConfigError),
        ("sqlite:////proc/nothing/keys.db", ConfigError),
        ("sqlite:////proc/version", UnreachableError),
    ],
)
def test_a_wrong_store_url_is_one_clear_line(url: str, error: type[LakebedError]) -> None:
    with pytest.raises(error, match=r"^key store") as caught:
        open_database(url)
    assert "\n" not in str(caught.value)


def test_the_command_line_makes_lists_and_revokes(lakebed_home: Path) -> None:
    runner = CliRunner()
    made = runner.invoke(app, ["keys", "create", "--name", "laptop", "--days", "30"])
    secret = made.stdout.strip()
    assert secret.startswith("lb_")
    assert "cannot be shown again" in made.stderr
    listed = runner.invoke(app, ["keys", "list"]).stdout
    assert "laptop" in listed
    assert "works" in listed
    assert secret not in listed
    assert runner.invoke(app, ["keys", "revoke", secret[:9]]).exit_code == 0
    assert "revoked" in runner.invoke(app, ["keys", "list"]).stdout
    assert (lakebed_home / "endpoint.db").exists()
