"""Hands measurements to Ray, whose agent on every node exports them to Prometheus as `ray_lakebed_…`.

A call into Ray takes 1 to 3 us and the lock of its core worker, so counters are added up here and handed on every
second; histograms go at once, because Ray takes them one value at a time.
"""

import threading
from collections import defaultdict
from collections.abc import Callable
from typing import Any, Final

from ray.util import metrics as ray_metrics

from lakebed.serve.metrics import CATALOGUE, Counter, Gauge, Histogram

REPLICA_LABEL: Final = "replica"
"""Stands on every metric, so that series of two replicas never mix."""

_FLUSH_SECONDS: Final = 1.0

_Labels = tuple[tuple[str, str], ...]


class RayMetrics:
    """The metrics of one replica."""

    def __init__(self, replica: str) -> None:
        self._exported = {metric: _exported(metric, replica) for metric in CATALOGUE}
        self._counts: dict[tuple[Counter, _Labels], float] = defaultdict(float)
        self._gauges: list[tuple[Gauge, Callable[[], float], dict[str, str]]] = []
        self._lock = threading.Lock()
        threading.Thread(target=self._keep_flushing, name="metrics", daemon=True).start()

    def count(self, metric: Counter, amount: float = 1, **labels: str) -> None:
        """Add `amount`; exported within a second or so."""
        key = (metric, tuple(labels.items()))
        with self._lock:
            self._counts[key] += amount

    def observe(self, metric: Histogram, value: float, **labels: str) -> None:
        """Put `value` into its bucket."""
        self._exported[metric].observe(value, labels)

    def watch(self, metric: Gauge, read: Callable[[], float], **labels: str) -> None:
        """Export what `read` returns, every second from now on."""
        with self._lock:
            self._gauges.append((metric, read, labels))

    def flush(self) -> None:
        """Hand on what was added up, and read every gauge."""
        with self._lock:
            counts, self._counts = self._counts, defaultdict(float)
            gauges = list(self._gauges)
        for (metric, labels), amount in counts.items():
            if amount > 0:
                self._exported[metric].inc(amount, dict(labels))
        for gauge, read, tags in gauges:
            self._exported[gauge].set(read(), tags)

    def _keep_flushing(self) -> None:
        """Ends with the process. Gauges that are not set again disappear from Ray's export."""
        pause = threading.Event()
        while not pause.wait(_FLUSH_SECONDS):
            self.flush()


def _exported(metric: Counter | Gauge | Histogram, replica: str) -> Any:
    labels = (*metric.labels, REPLICA_LABEL)
    made: Any
    if isinstance(metric, Histogram):
        made = ray_metrics.Histogram(metric.name, metric.help, list(metric.buckets), labels)
    elif isinstance(metric, Counter):
        made = ray_metrics.Counter(metric.name, metric.help, labels)
    else:
        made = ray_metrics.Gauge(metric.name, metric.help, labels)
    return made.set_default_tags({REPLICA_LABEL: replica})
