"""API keys in the database: create, list, update, revoke, look up.

The database holds the sha256 of a key and never the key. A plain hash is right here, unlike for passwords: a key
carries 256 random bits, so there is nothing to guess, and salting or stretching would only slow every request.
"""

import hashlib
import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy import Engine, or_, select
from sqlalchemy.orm import Session

from lakebed.platform.errors import ConfigError, NotFoundError
from lakebed.serve.store.schema import KeyRow

_MARK: Final = "lb_"
_SHOWN: Final = len(_MARK) + 6
_HIGHEST_LIMIT: Final = 2**31 - 1


@dataclass(frozen=True)
class Terms:
    """What a key may do. None is every model, and for limits the server's default."""

    models: tuple[str, ...] | None = None
    admin: bool = False
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None

    def __post_init__(self) -> None:
        if self.models is not None and not all(self.models):
            raise ConfigError("a key's models need names")
        for limit in (self.requests_per_minute, self.tokens_per_minute):
            if limit is not None and not 1 <= limit <= _HIGHEST_LIMIT:
                raise ConfigError(f"a key's limit must be from 1 to {_HIGHEST_LIMIT:,} a minute, not {limit:,}")


@dataclass(frozen=True)
class Key:
    """What is known of a key. `prefix` is the beginning that may be shown."""

    id: str
    name: str
    prefix: str
    created: datetime
    expires: datetime | None
    revoked: datetime | None
    terms: Terms = Terms()

    def may_use(self, model: str) -> bool:
        """Whether the key opens the model of this name; one that it may use, it may use in every version."""
        models = self.terms.models
        return models is None or model in models or model.partition("@")[0] in models

    def works_at(self, moment: datetime) -> bool:
        """Whether the key opens anything at `moment`."""
        return self.revoked is None and (self.expires is None or moment < self.expires)


def create_key(
    engine: Engine, name: str, lifetime: timedelta | None = None, terms: Terms | None = None
) -> tuple[str, Key]:
    """Make a key; returns the secret, which is not kept anywhere, and what is."""
    if not name.strip() or len(name) > 200:
        raise ConfigError("a key needs a name of 1 to 200 characters")
    secret = _MARK + secrets.token_urlsafe(32)
    now = datetime.now(UTC)
    row = KeyRow(
        id=f"key_{secrets.token_hex(8)}",
        name=name,
        prefix=secret[:_SHOWN],
        digest=digest_of(secret),
        created=now,
        expires=None if lifetime is None else now + lifetime,
        revoked=None,
    )
    _lay_down(terms or Terms(), row)
    with Session(engine) as session, session.begin():
        session.add(row)
        session.flush()
        return secret, _key(row)


def list_keys(engine: Engine) -> list[Key]:
    """Every key, oldest first, those that no longer work included."""
    with Session(engine) as session:
        return [_key(row) for row in session.scalars(select(KeyRow).order_by(KeyRow.created))]


def revoke_key(engine: Engine, which: str) -> Key:
    """Revoke the key with this id or prefix; raises NotFoundError, or ConfigError when several match."""
    with Session(engine) as session, session.begin():
        row = _named(session, which)
        row.revoked = row.revoked or datetime.now(UTC)
        return _key(row)


def update_key(engine: Engine, which: str, changed: Callable[[Terms], Terms]) -> Key:
    """Change what the key with this id or prefix may do; raises as `revoke_key` does."""
    with Session(engine) as session, session.begin():
        row = _named(session, which)
        _lay_down(changed(_terms(row)), row)
        return _key(row)


def find_key(engine: Engine, secret: str) -> Key | None:
    """The key with this secret, working or not.

    Found through its hash, of which a caller cannot choose the digits, so the time an index takes tells nothing
    about the stored ones; the comparison that decides takes constant time.
    """
    digest = digest_of(secret)
    with Session(engine) as session:
        row = session.scalars(select(KeyRow).where(KeyRow.digest == digest)).one_or_none()
        return _key(row) if row is not None and hmac.compare_digest(row.digest, digest) else None


def digest_of(secret: str) -> str:
    """Sha256 of a secret, as 64 hex digits."""
    return hashlib.sha256(secret.encode()).hexdigest()


def _named(session: Session, which: str) -> KeyRow:
    rows = list(session.scalars(select(KeyRow).where(or_(KeyRow.id == which, KeyRow.prefix == which))))
    if not rows:
        raise NotFoundError(f"no key {which!r}", hint="`lakebed keys list` shows ids and prefixes")
    if len(rows) > 1:
        raise ConfigError(f"{len(rows)} keys begin with {which!r}", hint="name one by its id")
    return rows[0]


def _lay_down(terms: Terms, row: KeyRow) -> None:
    row.models = None if terms.models is None else list(terms.models)
    row.admin = terms.admin
    row.requests_per_minute = terms.requests_per_minute
    row.tokens_per_minute = terms.tokens_per_minute


def _terms(row: KeyRow) -> Terms:
    models = None if row.models is None else tuple(row.models)
    return Terms(models, row.admin, row.requests_per_minute, row.tokens_per_minute)


def _key(row: KeyRow) -> Key:
    return Key(row.id, row.name, row.prefix, row.created, row.expires, row.revoked, _terms(row))
