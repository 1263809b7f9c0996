"""API keys in the database: create, list, revoke, look up.

The database holds the sha256 of a key and never the key. A plain hash is right here, unlike for passwords: a key
carries 256 random bits, so there is nothing to guess, and salting or stretching would only slow every request.
"""

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy import Engine, or_, select
from sqlalchemy.orm import Session

from lakebed.platform.errors import ConfigError, NotFoundError
from lakebed.serve.store.schema import KeyRow

_MARK: Final = "lb_"
_SHOWN: Final = len(_MARK) + 6


@dataclass(frozen=True)
class Key:
    """What is known of a key. `prefix` is the beginning that may be shown."""

    id: str
    name: str
    prefix: str
    created: datetime
    expires: datetime | None
    revoked: datetime | None

    def works_at(self, moment: datetime) -> bool:
        """Whether the key opens anything at `moment`."""
        return self.revoked is None and (self.expires is None or moment < self.expires)


def create_key(engine: Engine, name: str, lifetime: timedelta | None = None) -> tuple[str, Key]:
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
        rows = list(session.scalars(select(KeyRow).where(or_(KeyRow.id == which, KeyRow.prefix == which))))
        if not rows:
            raise NotFoundError(f"no key {which!r}", hint="`lakebed keys list` shows ids and prefixes")
        if len(rows) > 1:
            raise ConfigError(f"{len(rows)} keys begin with {which!r}", hint="name one by its id")
        rows[0].revoked = rows[0].revoked or datetime.now(UTC)
        return _key(rows[0])


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


def _key(row: KeyRow) -> Key:
    return Key(row.id, row.name, row.prefix, row.created, row.expires, row.revoked)
