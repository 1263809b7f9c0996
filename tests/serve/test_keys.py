"""The key store and what `lakebed keys` does with it."""

import asyncio
import hashlib
import re
import sqlite3
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import make_url, text
from typer.testing import CliRunner

from lakebed.cli.app import app
from lakebed.platform.errors import ConfigError, LakebedError, NotFoundError, UnreachableError
from lakebed.serve.auth import StoredKeys
from lakebed.serve.errors import UnauthorizedError
from lakebed.serve.store.database import connect, migrate, open_database
from lakebed.serve.store.keys import (
    Key,
    Terms,
    create_key,
    digest_of,
    find_key,
    list_keys,
    revoke_key,
    update_key,
)
from lakebed.serve.store.schema import Base


def check(authenticator: StoredKeys, secret: str) -> str:
    return asyncio.run(authenticator.check(f"Bearer {secret}")).name


def test_a_key_is_found_by_its_secret_alone(any_key_store: str) -> None:
    engine = open_database(any_key_store)
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


def test_an_expired_key_is_refused(any_key_store: str) -> None:
    engine = open_database(any_key_store)
    secret, key = create_key(engine, "me", timedelta(days=1))
    assert key.expires is not None
    assert key.works_at(datetime.now(UTC))
    assert not key.works_at(key.expires)
    old, _ = create_key(engine, "old", timedelta(days=-1))
    assert check(StoredKeys(engine, 1.0), secret) == "me"
    with pytest.raises(UnauthorizedError, match="expired"):
        check(StoredKeys(engine, 1.0), old)


def test_a_revoked_key_is_refused_when_what_was_remembered_is_too_old(any_key_store: str) -> None:
    now = 0.0
    engine = open_database(any_key_store)
    secret, key = create_key(engine, "me")
    authenticator = StoredKeys(engine, 2.0, clock=lambda: now)
    assert check(authenticator, secret) == "me"
    revoke_key(engine, key.id)
    now = 1.9
    assert check(authenticator, secret) == "me"
    now = 2.0
    with pytest.raises(UnauthorizedError, match="revoked"):
        check(authenticator, secret)


def test_revoking_takes_an_id_or_a_prefix_and_keeps_the_first_date(any_key_store: str) -> None:
    engine = open_database(any_key_store)
    _, key = create_key(engine, "me")
    first = revoke_key(engine, key.prefix)
    assert revoke_key(engine, key.id) == first
    with pytest.raises(NotFoundError, match="no key"):
        revoke_key(engine, "key_nothing")


def test_the_migrations_make_what_the_schema_says(any_key_store: str) -> None:
    with open_database(any_key_store).connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []


def test_opening_again_keeps_the_keys(any_key_store: str) -> None:
    create_key(open_database(any_key_store), "me")
    assert [key.name for key in list_keys(open_database(any_key_store))] == ["me"]


def test_what_a_key_may_do_is_kept_and_changed(any_key_store: str) -> None:
    engine = open_database(any_key_store)
    terms = Terms(models=("a", "b"), admin=True, requests_per_minute=60, tokens_per_minute=2**31 - 1)
    secret, key = create_key(engine, "me", terms=terms)
    other, _ = create_key(engine, "other")
    update_key(engine, key.id, lambda terms: replace(terms, models=None, requests_per_minute=None))
    found = find_key(engine, secret)
    assert found is not None
    assert found.terms == Terms(admin=True, tokens_per_minute=2**31 - 1)
    untouched = find_key(engine, other)
    assert untouched is not None
    assert untouched.terms == Terms()


def test_a_key_of_the_first_version_may_do_everything_after_the_migration(any_key_store: str) -> None:
    engine, secret = connect(any_key_store), "lb_of_the_first_version"
    migrate(engine, "0001")
    columns = "id, name, prefix, digest, created"
    with engine.begin() as connection:
        connection.execute(
            text(f"INSERT INTO api_keys ({columns}) VALUES ('key_1', 'old', 'lb_of', :digest, :created)"),
            {"digest": digest_of(secret), "created": datetime(2026, 11, 1, tzinfo=UTC)},
        )
    migrate(engine)
    key = find_key(engine, secret)
    assert key is not None
    assert (key.name, key.terms) == ("old", Terms())
    assert key.works_at(datetime.now(UTC))
    assert key.may_use("anything")


def test_a_changed_limit_is_known_when_what_was_remembered_is_too_old(any_key_store: str) -> None:
    now = 0.0
    engine = open_database(any_key_store)
    secret, key = create_key(engine, "me")
    authenticator = StoredKeys(engine, 2.0, clock=lambda: now)
    check(authenticator, secret)
    update_key(engine, key.prefix, lambda terms: replace(terms, tokens_per_minute=5))
    now = 2.0
    assert asyncio.run(authenticator.check(f"Bearer {secret}")).terms.tokens_per_minute == 5


@pytest.mark.parametrize(
    ("scope", "allowed", "refused"),
    [
        (None, ["a", "a@7"], []),
        (("a",), ["a", "a@7", "a@candidate"], ["b", "ab", "b@a"]),
        (("a@7", "b"), ["a@7", "b"], ["a", "a@8"]),
    ],
)
def test_a_scope_names_models_or_single_versions(
    scope: tuple[str, ...] | None, allowed: list[str], refused: list[str]
) -> None:
    now = datetime.now(UTC)
    key = Key("key_1", "me", "lb_", now, None, None, Terms(models=scope))
    assert all(key.may_use(name) for name in allowed)
    assert not any(key.may_use(name) for name in refused)


@pytest.mark.parametrize("terms", [{"models": ("",)}, {"requests_per_minute": 0}, {"tokens_per_minute": 2**31}])
def test_terms_that_make_no_sense_are_refused(terms: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="a key's"):
        Terms(**terms)


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("nonsense", ConfigError),
        ("nosuchdb://host/db", ConfigError),
        ("postgresql+nosuchdriver://host/db", ConfigError),
        ("sqlite:////proc/nothing/keys.db", ConfigError),
        ("sqlite:////proc/version", UnreachableError),
        ("postgresql+psycopg://lakebed@127.0.0.1:1/keys", UnreachableError),
    ],
)
def test_a_wrong_store_url_is_one_clear_line(url: str, error: type[LakebedError]) -> None:
    with pytest.raises(error, match=r"^key store") as caught:
        open_database(url)
    assert "\n" not in str(caught.value)


def printed_id(output: str) -> str:
    """The one id of a key that a command printed, whole."""
    [found] = re.findall(r"key_[0-9a-f]{16}", output)
    return str(found)


def test_the_command_line_makes_lists_and_revokes(lakebed_home: Path) -> None:
    runner = CliRunner()
    made = runner.invoke(
        app, ["keys", "create", "--name", "laptop", "--days", "30", "--models", "a", "--rpm", "5"]
    )
    secret = made.stdout.strip()
    assert secret.startswith("lb_")
    assert "cannot be shown again" in made.stderr
    listed = runner.invoke(app, ["keys", "list"]).stdout
    assert "laptop" in listed
    assert "works" in listed
    assert printed_id(listed) == printed_id(runner.invoke(app, ["keys", "update", secret[:9]]).stdout)
    assert secret not in listed
    update = ["keys", "update", secret[:9]]
    changed = runner.invoke(app, [*update, "--models", "a, b", "--admin", "--rpm", "60"]).stdout
    assert changed.endswith("(laptop): a, b; admin; rpm 60, tpm default\n")
    changed = runner.invoke(app, [*update, "--models", "", "--no-admin", "--rpm", "0", "--tpm", "1000"]).stdout
    assert changed.endswith("(laptop): all models; rpm default, tpm 1,000\n")
    assert runner.invoke(app, ["keys", "revoke", secret[:9]]).exit_code == 0
    assert "revoked" in runner.invoke(app, ["keys", "list"]).stdout
    assert (lakebed_home / "endpoint.db").exists()
