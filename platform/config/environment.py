"""What the environment decides: where lakebed keeps its state and which servers it talks to.

Read when asked for, never at import.
"""

from pathlib import Path

from pydantic import AliasChoices, Field, PositiveFloat, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from lakebed.platform.config.base import describe
from lakebed.platform.errors import ConfigError


class Environment(BaseSettings):
    """Settings by environment variable; every one has a default that works on a laptop."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)

    home: Path = Field(default=Path(".lakebed"), validation_alias="LAKEBED_HOME")
    """Folder of local state: key store, downloaded models, the default MLflow database and artifacts."""

    tracking_uri: str | None = Field(
        default=None, validation_alias=AliasChoices("LAKEBED_TRACKING_URI", "MLFLOW_TRACKING_URI")
    )
    """MLflow tracking and registry: a server's URL or a database URI. Default: SQLite under `home`."""

    address: str | None = Field(
        default=None, validation_alias=AliasChoices("LAKEBED_ADDRESS", "RAY_API_SERVER_ADDRESS")
    )
    """Ray cluster to submit jobs to, as http://host:8265."""

    eval_cache_gib: PositiveFloat = Field(default=16, validation_alias="LAKEBED_EVAL_CACHE_GIB")
    """How much vectors and results of evaluations may each take on disk under `home`, in GiB."""

    @property
    def resolved_tracking_uri(self) -> str:
        """The MLflow URI in force."""
        if self.tracking_uri:
            return self.tracking_uri
        return f"sqlite:///{self.home.absolute() / 'mlflow.db'}"


def read_environment() -> Environment:
    """Read the environment now; raises ConfigError when a variable holds no usable value."""
    try:
        return Environment()
    except ValidationError as error:
        raise ConfigError(f"environment: {describe(error)}") from None
