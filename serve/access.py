"""Around every request: one log line, the metrics, the timing headers, and an answer when our own code fails.

An ASGI middleware. The handlers behind it fill in the request's record, which it makes.
"""

import asyncio
import logging
from datetime import UTC, datetime
from typing import Final

import orjson
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lakebed.serve import metrics as m
from lakebed.serve.error_responses import internal_error
from lakebed.serve.logs import ACCESS_LOGGER, described
from lakebed.serve.metrics import Metrics
from lakebed.serve.request_record import RequestRecord, record_in

_log = logging.getLogger(__name__)
_access_log = logging.getLogger(ACCESS_LOGGER)

_CLIENT_LEFT: Final = 499
_NO_ROUTE: Final = "none"
_NO_MODEL: Final = "none"
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_PROBES: Final = frozenset({"/health", "/healthz"})
"""Asked every second by whoever balances load, so a successful one is logged at DEBUG only."""


class Access:
    """Wraps `app`; nothing that happens inside leaves it but cancellation."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        record = record_in(scope)
        status = 0

        async def send_on(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                record.timings.stop()
                if record.timed:
                    message["headers"] = [*message["headers"], *_encoded(record.timings.headers())]
            await send(message)

        try:
            await self._app(scope, receive, send_on)
        except asyncio.CancelledError:
            status = _CLIENT_LEFT
            raise
        except Exception as error:  # noqa: BLE001 - the caller gets an answer, the log the place
            _log.error("unexpected error in answering %s\n%s", _route(scope), described(error))
            if status:
                raise ConnectionAbortedError("the answer broke off; the line above says why") from None
            record.code = "internal_error"
            await internal_error().response(Request(scope))(scope, receive, send_on)
        finally:
            self._write_down(scope, record, status)

    def _write_down(self, scope: Scope, record: RequestRecord, status: int) -> None:
        if not record.timings.total:
            record.timings.stop()
        route = _route(scope)
        self._measure(record, route, status)
        level = logging.DEBUG if route in _PROBES and status < 300 else logging.INFO
        if _access_log.isEnabledFor(level):
            method = scope["method"] if scope["method"] in _METHODS else "other"
            _access_log.log(level, _line(record, method, route, status))

    def _measure(self, record: RequestRecord, route: str, status: int) -> None:
        metrics, model = self._metrics, record.model or _NO_MODEL
        metrics.count(m.REQUESTS, route=route, status=str(status), model=model)
        if status == _CLIENT_LEFT:
            metrics.count(m.CANCELLED)
        elif status >= 300:
            metrics.count(m.REFUSED, code=m.code_label(record.code or "unknown"))
        elif record.timed:
            self._measure_work(record, route, model)

    def _measure_work(self, record: RequestRecord, route: str, model: str) -> None:
        metrics = self._metrics
        metrics.observe(m.REQUEST_SECONDS, record.timings.total, route=route, model=model)
        for stage, seconds in record.timings.stages().items():
            metrics.observe(m.STAGE_SECONDS, seconds, stage=stage)
        metrics.count(m.ITEMS, record.items, model=model)
        metrics.count(m.TOKENS, record.text_tokens, model=model, kind="text")
        metrics.count(m.TOKENS, record.signal_tokens, model=model, kind="signal")
        metrics.count(m.TRUNCATED_TOKENS, record.truncated_tokens, model=model)


def _route(scope: Scope) -> str:
    """The route's own pattern, never the path that was asked for."""
    return getattr(scope.get("route"), "path", _NO_ROUTE)


def _encoded(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]


def _line(record: RequestRecord, method: str, route: str, status: int) -> str:
    """The log line of one request, as JSON."""
    timings = record.timings
    stages = timings.stages() if record.timed else {}
    fields = {
        "time": datetime.now(UTC),
        "request_id": record.request_id,
        "method": method,
        "route": route,
        "status": status,
        "code": record.code,
        "model": record.model,
        "key_id": record.key_id,
        "items": record.items,
        "text_tokens": record.text_tokens,
        "signal_tokens": record.signal_tokens,
        "truncated_tokens": record.truncated_tokens,
        "cached_items": record.cached_items,
        "total_ms": round(1000 * timings.total, 2),
        **{f"{stage}_ms": round(1000 * seconds, 2) for stage, seconds in stages.items()},
    }
    return orjson.dumps(fields, option=orjson.OPT_UTC_Z).decode()
