"""What watching costs: microseconds of processor time that a request spends on metrics and on its log line.

In a Ray actor, as in a replica, on an application that does nothing; the medians of runs taken in turn.
"""

import asyncio
import logging
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any, Final

import ray
from ray.util.metrics import Counter
from starlette.types import Receive, Scope, Send

from benchmarks.machine import arguments, report
from lakebed.serve import metrics as catalogue
from lakebed.serve.access import Access
from lakebed.serve.logs import ACCESS_LOGGER, join_serve_log
from lakebed.serve.ray_metrics import RayMetrics
from lakebed.serve.request_record import record_in

_REQUESTS: Final = 2000
_ROUNDS: Final = 7


class _Route:
    path = "/v1/embeddings"


async def _application(scope: Scope, _receive: Receive, send: Send) -> None:
    record = record_in(scope)
    record.timed, record.model, record.items, record.text_tokens = True, "lakebed-embed", 1, 12
    scope["route"] = _Route
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b""})


async def _nowhere(_message: Any) -> None:
    """Nobody reads the answer."""


async def _requests(application: Callable[..., Awaitable[None]]) -> float:
    """Processor time a request, in microseconds."""
    start = time.process_time()
    for _ in range(_REQUESTS):
        scope = {"type": "http", "headers": [(b"x-request-id", b"0" * 36)], "method": "POST"}
        await application(scope, None, _nowhere)
    return 1e6 * (time.process_time() - start) / _REQUESTS


def _calls(call: Callable[[], None]) -> float:
    """Processor time a call, in microseconds."""
    start = time.process_time()
    for _ in range(_REQUESTS):
        call()
    return 1e6 * (time.process_time() - start) / _REQUESTS


def _serve_logger(folder: str) -> None:
    """Serve's own way to a JSON line."""
    from ray.serve._private.logging_utils import configure_component_logger
    from ray.serve.schema import LoggingConfig

    configure_component_logger(
        component_name="benchmark",
        component_id="0",
        logging_config=LoggingConfig(encoding="JSON", logs_dir=folder),
        max_bytes=10**9,
        backup_count=1,
    )


def _measure(folder: str) -> dict[str, float]:
    _serve_logger(folder)
    join_serve_log("INFO", Path(folder), "benchmark")
    metrics, ours = RayMetrics("benchmark"), logging.getLogger(ACCESS_LOGGER)
    counter = Counter("benchmark_total", "Nothing.")
    fields = {f"field_{number}": "x" for number in range(15)} | {"skip_context_filter": True}
    runs: Mapping[str, Callable[[], float]] = {
        "bare": lambda: asyncio.run(_requests(_application)),
        "middleware": lambda: _at(
            ours, "ERROR", lambda: asyncio.run(_requests(Access(_application, catalogue.NoMetrics())))
        ),
        "metrics": lambda: _at(ours, "ERROR", lambda: asyncio.run(_requests(Access(_application, metrics)))),
        "all": lambda: _at(ours, "INFO", lambda: asyncio.run(_requests(Access(_application, metrics)))),
        "ray_counter_call_us": lambda: _calls(lambda: counter.inc(1)),
        "ray_histogram_call_us": lambda: _calls(
            lambda: metrics.observe(catalogue.STAGE_SECONDS, 0.003, stage="queue")
        ),
        "serve_log_line_us": lambda: _calls(lambda: logging.getLogger("ray.serve").info("POST", extra=fields)),
    }
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(_ROUNDS):
        for name, run in runs.items():
            taken[name].append(run())
    figures = {name: median(values) for name, values in taken.items()}
    return {
        "middleware_us": figures["middleware"] - figures["bare"],
        "metrics_us": figures["metrics"] - figures["middleware"],
        "log_line_us": figures["all"] - figures["metrics"],
        **{name: value for name, value in figures.items() if name.endswith("_us")},
    }


def _at(logger: logging.Logger, level: str, run: Callable[[], float]) -> float:
    logger.setLevel(level)
    return run()


def main() -> None:
    """Measure in an actor of a Ray of our own."""
    options = arguments(__doc__).parse_args()
    ray.init(
        address="local",
        num_cpus=1,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        runtime_env={"env_vars": {"RAY_SERVE_LOG_TO_STDERR": "0"}},  # as in a replica
    )
    with tempfile.TemporaryDirectory() as folder:
        report(ray.get(ray.remote(_measure).remote(folder)), options.json)
    ray.shutdown()


if __name__ == "__main__":
    main()
