"""What the endpoint measures: every metric with its labels, and the interface that takes the measurements.

Knows no Ray: `ray_metrics` exports. Every label has few values, all of them ours: routes, statuses, configured
model names, stages, and error codes. Keys, request ids and what clients send are never labels.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol, get_args

from pydantic_core.core_schema import ErrorType

from lakebed.platform.encoder.prepared import IntArray


@dataclass(frozen=True, eq=False)
class Counter:
    """A number that only grows."""

    name: str
    help: str
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Gauge:
    """A number that is read when it is exported."""

    name: str
    help: str
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Histogram:
    """How often a number fell into which bucket; `buckets` are upper bounds."""

    name: str
    help: str
    buckets: tuple[float, ...]
    labels: tuple[str, ...] = ()


class Metrics(Protocol):
    """Takes measurements. Labels are given by name, all that the metric has; calls may come from any thread."""

    def count(self, metric: Counter, amount: float = 1, **labels: str) -> None:
        """Add `amount`, which may be 0."""
        ...

    def observe(self, metric: Histogram, value: float, **labels: str) -> None:
        """Put `value` into its bucket."""
        ...

    def watch(self, metric: Gauge, read: Callable[[], float], **labels: str) -> None:
        """Export what `read` returns, from now on; it is called from another thread."""
        ...


class NoMetrics:
    """Measures nothing: for a service that no exporter looks at."""

    def count(self, metric: Counter, amount: float = 1, **labels: str) -> None:
        """Do nothing."""

    def observe(self, metric: Histogram, value: float, **labels: str) -> None:
        """Do nothing."""

    def watch(self, metric: Gauge, read: Callable[[], float], **labels: str) -> None:
        """Do nothing."""


_SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_ROWS: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0)
_TOKENS: Final = (16.0, 64.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0, 16_384.0, 32_768.0, 65_536.0)
_RATIOS: Final = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)

REQUESTS: Final = Counter("lakebed_requests_total", "Requests answered.", ("route", "status", "model"))
REQUEST_SECONDS: Final = Histogram(
    "lakebed_request_seconds", "Seconds to answer a request, successful ones only.", _SECONDS, ("route", "model")
)
STAGE_SECONDS: Final = Histogram(
    "lakebed_stage_seconds",
    "Seconds of a successful request by stage: prepare, queue, forward, write.",
    _SECONDS,
    ("stage",),
)
REFUSED: Final = Counter("lakebed_refused_total", "Requests answered with an error, by its code.", ("code",))
CANCELLED: Final = Counter("lakebed_cancelled_total", "Requests whose client left before the answer.")

ITEMS: Final = Counter("lakebed_items_total", "Items embedded.", ("model",))
TOKENS: Final = Counter(
    "lakebed_tokens_total", "Tokens embedded: of text, and token equivalents of signals.", ("model", "kind")
)
TRUNCATED_TOKENS: Final = Counter("lakebed_truncated_tokens_total", "Text tokens cut off unread.", ("model",))

BATCHES: Final = Counter("lakebed_batches_total", "Batches that the device ran.", ("model",))
BATCH_ROWS: Final = Histogram("lakebed_batch_rows", "Items in a batch.", _ROWS, ("model",))
BATCH_TOKENS: Final = Histogram(
    "lakebed_batch_tokens", "Token equivalents in a batch, without padding.", _TOKENS, ("model",)
)
BATCH_PADDING: Final = Histogram(
    "lakebed_batch_padding_ratio", "Share of a padded batch that is padding.", _RATIOS, ("model",)
)

QUEUED_TOKENS: Final = Gauge("lakebed_queued_tokens", "Token equivalents let in and not yet answered.")
QUEUED_REQUESTS: Final = Gauge("lakebed_queued_requests", "Requests let in and not yet answered.")

CACHE_HITS: Final = Counter("lakebed_cache_hits_total", "Items that needed no computing.")
CACHE_MISSES: Final = Counter("lakebed_cache_misses_total", "Items computed while the cache was on.")
CACHE_EVICTIONS: Final = Counter("lakebed_cache_evictions_total", "Vectors dropped to make room.")
CACHE_BYTES: Final = Gauge("lakebed_cache_bytes", "Memory that cached vectors take.")

MODEL_INFO: Final = Gauge(
    "lakebed_model_info", "1 for each model that a replica serves.", ("model", "version", "digest")
)

CATALOGUE: Final[tuple[Counter | Gauge | Histogram, ...]] = (
    REQUESTS,
    REQUEST_SECONDS,
    STAGE_SECONDS,
    REFUSED,
    CANCELLED,
    ITEMS,
    TOKENS,
    TRUNCATED_TOKENS,
    BATCHES,
    BATCH_ROWS,
    BATCH_TOKENS,
    BATCH_PADDING,
    QUEUED_TOKENS,
    QUEUED_REQUESTS,
    CACHE_HITS,
    CACHE_MISSES,
    CACHE_EVICTIONS,
    CACHE_BYTES,
    MODEL_INFO,
)

_FIELD_CODES: Final = frozenset(get_args(ErrorType))

FAULTY_FIELD: Final = "invalid_field"
"""What pydantic's hundred names for a faulty field are counted under."""


def code_label(code: str) -> str:
    """The label value for an error's code; those that are not pydantic's are literals in our source."""
    return FAULTY_FIELD if code in _FIELD_CODES else code


def record_batch(metrics: Metrics, model: str, costs: IntArray) -> None:
    """Note a batch that ran, by its items' costs in token equivalents."""
    tokens = int(costs.sum())
    padded = len(costs) * max(1, int(costs.max()))
    metrics.count(BATCHES, model=model)
    metrics.observe(BATCH_ROWS, len(costs), model=model)
    metrics.observe(BATCH_TOKENS, tokens, model=model)
    metrics.observe(BATCH_PADDING, max(0.0, 1 - tokens / padded), model=model)
