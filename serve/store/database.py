"""Opening the endpoint's database and bringing its tables up to date.

Any SQLAlchemy URL; SQLite by default, PostgreSQL for more than one machine. Does not know what is in the tables.
"""

from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config as AlembicConfig
from sqlalchemy import Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from lakebed.platform.config.environment import read_environment
from lakebed.platform.errors import ConfigError, UnreachableError

_LOCK_WAIT_SECONDS = 10


def default_url() -> str:
    """SQLite under LAKEBED_HOME."""
    return f"sqlite:///{read_environment().home.absolute() / 'endpoint.db'}"


def open_database(url: str) -> Engine:
    """Connect and migrate; raises ConfigError for a wrong URL, UnreachableError when nothing answers."""
    engine = connect(url)
    try:
        migrate(engine)
    except SQLAlchemyError as error:
        raise UnreachableError(f"key store {_shown(engine)}: {_reason(error)}") from None
    return engine


def connect(url: str) -> Engine:
    """Make an engine without opening a connection; raises ConfigError for a wrong URL or a missing driver."""
    try:
        parsed = make_url(url)
        if parsed.get_backend_name() == "sqlite":
            _make_folder(parsed.database)
            engine = create_engine(parsed, connect_args={"timeout": _LOCK_WAIT_SECONDS})
            event.listen(engine, "connect", _write_ahead)
            return engine
        if parsed.get_backend_name() == "postgresql":
            return create_engine(parsed, pool_pre_ping=True, connect_args={"connect_timeout": _LOCK_WAIT_SECONDS})
        return create_engine(parsed, pool_pre_ping=True)
    except (ArgumentError, NoSuchModuleError) as error:
        raise ConfigError(f"key store: {_reason(error)}", hint="use a URL such as sqlite:///keys.db") from None
    except ModuleNotFoundError as error:
        package = "'lakebed[postgres]'" if error.name == "psycopg" else error.name
        raise ConfigError(
            f"key store: no driver {error.name!r} is installed", hint=f"pip install {package}"
        ) from None


def migrate(engine: Engine, revision: str = "head") -> None:
    """Bring the tables to the newest revision, or to this one; does nothing when they are there."""
    config = AlembicConfig()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


def _make_folder(database: str | None) -> None:
    if not database or database == ":memory:":
        return
    try:
        Path(database).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"key store {database}: {error.strerror}") from None


def _write_ahead(connection: Any, _record: Any) -> None:
    """Let replicas read while a key is being written."""
    connection.execute("PRAGMA journal_mode=WAL")


def _shown(engine: Engine) -> str:
    return engine.url.render_as_string(hide_password=True)


def _reason(error: Exception) -> str:
    cause = getattr(error, "orig", None) or error
    return str(cause).strip().splitlines()[0]
