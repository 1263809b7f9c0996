"""Configuration of the endpoint: `serve.yaml` and the options of `lakebed serve`.

Knows names, limits and where things listen; knows nothing of Ray, HTTP or encoders.
"""

import ipaddress
from typing import Any, Final, Literal, Self

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from lakebed.platform.config.base import Config

INERTIAL_NAME: Final = "inertial-embed-alpha"
"""The one model name that the inertialai-python client can send and read back."""


TokenInput = Literal["refuse", "model", "cl100k_base", "o200k_base", "p50k_base"]
"""Whose ids token arrays hold; the last three are encodings of tiktoken."""


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

    max_arriving_bytes: PositiveInt = 512 * 2**20
    """Bytes of bodies that have come in part, in one replica; above it, large ones get 429."""

    max_wait_seconds: PositiveFloat = 1.5
    """How long a request may have to wait for others, as far as is known; above it, it gets 429."""

    always_queued_tokens: NonNegativeInt = 16_384
    """Token equivalents that a request may have to wait for however long that takes: a dozen clients with 32 texts
    each should not be turned away by a slow machine."""

    max_seconds: PositiveFloat = 120.0
    """Seconds from a request's last byte to its answer; what has not run by then is given up."""

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
        if self.max_body_bytes > self.max_arriving_bytes:
            raise ValueError("max_body_bytes must not be above max_arriving_bytes: it could never be accepted")
        if self.max_input_tokens > self.max_request_tokens:
            raise ValueError("max_input_tokens must not be above max_request_tokens: it could never be accepted")
        return self


class KeyLimits(Config):
    """What one API key may do in a minute, over all replicas together, unless the key itself says otherwise."""

    requests_per_minute: PositiveInt | None = None
    """Requests to embed; null is without limit."""

    tokens_per_minute: PositiveInt | None = None
    """Token equivalents; null is without limit. A single request above it is refused for good."""

    failures_per_minute: PositiveInt = 30
    """Requests from one client address with keys that do not work; further ones get 429 instead of 401."""


class Batching(Config):
    """How large one device batch may be."""

    tokens: PositiveInt = 512
    """Token equivalents. What comes while a batch runs waits for its end, so more than keeps a core of a CPU busy
    is latency; a GPU is kept busy by 16,384 and more. An encoder that pads may work on four times as many."""

    rows: PositiveInt = 256
    """Items."""


class Replicas(Config):
    """How many copies of the encoder process there are. A bare number in YAML is that many, always."""

    min: PositiveInt = 1
    """Fewest; also how many there are at first."""

    max: PositiveInt = 1
    """Most; above `min`, copies come and go with the work that waits."""

    target_queued_tokens: PositiveInt = 50_000
    """Token equivalents that each copy should have accepted and not yet answered; more per copy brings another."""

    upscale_seconds: PositiveFloat = 10.0
    """How long the work must have been too much before copies are added."""

    downscale_seconds: PositiveFloat = 300.0
    """How long it must have been too little before copies are taken away."""

    cpus: PositiveInt | None = None
    """Cores of each, which are torch's threads. Default: an equal share of this machine's; 1 on a cluster."""

    @model_validator(mode="before")
    @classmethod
    def _from_a_number(cls, values: Any) -> Any:
        is_number = isinstance(values, int) and not isinstance(values, bool)
        return {"min": values, "max": values} if is_number else values

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.min > self.max:
            raise ValueError(f"min must not be above max, but {self.min} is above {self.max}")
        return self

    @property
    def vary(self) -> bool:
        """Whether their number follows the load."""
        return self.min < self.max


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

    follow_seconds: NonNegativeFloat = 5.0
    """How often a replica asks the registry whether an alias that it serves has moved; 0 for never."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where encoders run."""

    token_input: TokenInput = "refuse"  # noqa: S105 - a way to read, no password
    """Whose ids a token array as `input` holds, which it does not say itself: nobody's (it is refused), the served
    model's own, or those of one of tiktoken's encodings, which are read back as text (needs lakebed[tiktoken])."""

    replicas: Replicas = Replicas()
    """Copies of the encoder process: a number, or bounds and what brings another."""

    shape: Literal["colocated", "split"] = "colocated"
    """`colocated`: every replica speaks HTTP and holds every model. `split`: `ingress_replicas` speak HTTP,
    tokenize and write answers, without a GPU, and each model has `replicas` of its own that run its forwards."""

    ingress_replicas: PositiveInt = 1
    """How many replicas speak HTTP in the split shape."""

    replicas_of: dict[str, Replicas] = Field(default_factory=dict)
    """In the split shape, replicas of the model with this name, where they are not to be `replicas`."""

    batching: Batching = Batching()
    """Limits of one device batch."""

    limits: Limits = Limits()
    """Limits of one request."""

    key_limits: KeyLimits = KeyLimits()
    """Limits of one key in a minute."""

    cache_bytes: NonNegativeInt = 0
    """Memory for vectors of items embedded before, in each replica; 0 turns the cache off."""

    metrics_port: int | None = Field(default=None, ge=1, le=65_535)
    """Port of the Prometheus metrics. Default: one that is free, said at the start."""

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """The least that is logged; every answered request is a line at INFO."""

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
    def _names_with_replicas_are_served(self) -> Self:
        if self.replicas_of and self.shape != "split":
            raise ValueError("replicas_of needs shape: split; colocated replicas hold every model")
        if unknown := self.replicas_of.keys() - self.models.keys():
            raise ValueError(f"replicas_of names {sorted(unknown)}, which models does not")
        return self

    def names_by_model(self) -> dict[str, list[str]]:
        """Served names that share one model, by the first of them."""
        first: dict[str, str] = {}
        found: dict[str, list[str]] = {}
        for name, reference in self.models.items():
            found.setdefault(first.setdefault(reference, name), []).append(name)
        return found

    def model_replicas(self, name: str) -> Replicas:
        """Replicas of the model that is served as `name`, in the split shape; shared with its other names."""
        names = (other for other, reference in self.models.items() if reference == self.models[name])
        return next((self.replicas_of[other] for other in names if other in self.replicas_of), self.replicas)

    @property
    def http_replicas(self) -> Replicas:
        """Those that speak HTTP."""
        if self.shape == "colocated":
            return self.replicas
        return Replicas(min=self.ingress_replicas, max=self.ingress_replicas)

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
