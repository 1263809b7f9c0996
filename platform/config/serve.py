"""Configuration of the endpoint: `serve.yaml` and the options of `lakebed serve`.

Knows names, limits and where things listen; knows nothing of Ray, HTTP or encoders.
"""

import ipaddress
from typing import Final, Literal, Self

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, field_validator, model_validator

from lakebed.platform.config.base import Config

INERTIAL_NAME: Final = "inertial-embed-alpha"
"""The one model name that the inertialai-python client can send and read back."""


class Limits(Config):
    """What one request may ask for. More is refused with a message that names the limit."""

    max_inputs: PositiveInt = 2048
    """Items in one request."""

    max_input_tokens: PositiveInt = 65_536
    """Token equivalents of one item, time series included."""

    max_request_tokens: PositiveInt = 300_000
    """Token equivalents of one request."""

    max_body_bytes: PositiveInt = 64 * 2**20
    """Bytes of one request body."""

    body_seconds: PositiveFloat = 20.0
    """How long a request body may take to arrive."""

    body_bytes_per_second: PositiveInt = 16_384
    """For every so many bytes that have come, the body may take one second longer."""

    max_queued_tokens: PositiveInt = 1_200_000
    """Token equivalents accepted and not yet answered, in one replica; above it, requests get 429."""

    @model_validator(mode="after")
    def _fit_into_each_other(self) -> Self:
        if self.max_request_tokens > self.max_queued_tokens:
            raise ValueError("max_request_tokens must not be above max_queued_tokens: it could never be accepted")
        if self.max_input_tokens > self.max_request_tokens:
            raise ValueError("max_input_tokens must not be above max_request_tokens: it could never be accepted")
        return self


class Batching(Config):
    """How large one device batch may be."""

    tokens: PositiveInt = 4096
    """Padded token equivalents: rows times the longest."""

    rows: PositiveInt = 256
    """Items."""


class ServeConfig(Config):
    """The whole endpoint."""

    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 for every interface."""

    port: int = Field(default=8000, ge=1, le=65_535)
    """Port to listen on."""

    models: dict[str, str] = Field(
        default={"lakebed-embed": "lakebed-embed", INERTIAL_NAME: "lakebed-embed"}, min_length=1
    )
    """Names that clients ask for, each with the reference of the model behind it; equal models load once."""

    require_keys: bool = True
    """Whether every request needs a bearer key; may be false only while listening on loopback."""

    key_store: str | None = None
    """Database URL of the API keys, such as postgresql+psycopg://host/db. Default: SQLite under LAKEBED_HOME."""

    key_cache_seconds: NonNegativeFloat = 2.0
    """How long a replica trusts a key it has looked up; a revoked key stops working within this time."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where encoders run."""

    replicas: PositiveInt = 1
    """Copies of the encoder process."""

    batching: Batching = Batching()
    """Limits of one device batch."""

    limits: Limits = Limits()
    """Limits of one request."""

    header_seconds: PositiveInt = 10
    """How long the headers of a request may take to arrive; then the connection is closed."""

    silence_seconds: PositiveInt = 60
    """How long a client may neither send nor take a byte while it should; then the connection is closed."""

    drain_seconds: PositiveFloat = 10.0
    """How long requests in flight may take to finish when the server stops."""

    @field_validator("models")
    @classmethod
    def _names_fit_a_header(cls, models: dict[str, str]) -> dict[str, str]:
        for name, reference in models.items():
            if not name or not reference or not name.isascii() or not name.isprintable():
                raise ValueError(f"{name!r}: {reference!r} needs a printable ASCII name and a model reference")
        return models

    @model_validator(mode="after")
    def _keyless_only_on_loopback(self) -> Self:
        if not self.require_keys and not is_loopback(self.host):
            raise ValueError(
                f"require_keys may be false only on loopback, not on {self.host}: anyone who reaches the port "
                "could use the models"
            )
        return self


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
