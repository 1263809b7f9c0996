"""What is written down of one request: for its log line and for the metrics, never what it said."""

from collections.abc import MutableMapping
from dataclasses import dataclass, field
from typing import Any, Final

from lakebed.serve.request_ids import request_id_of
from lakebed.serve.timings import Timings

_SCOPE_KEY: Final = "lakebed.record"


@dataclass
class RequestRecord:
    """Facts of one request, filled in on its way. Holds no text, no vector, no secret.

    `model` is a configured name, never merely what a client sent; `key_id` names a key and opens nothing; `code`
    is the error's, when there is one; `timed` says whether the answer tells the timings.
    """

    request_id: str = ""
    model: str = ""
    key_id: str = ""
    items: int = 0
    text_tokens: int = 0
    signal_tokens: int = 0
    truncated_tokens: int = 0
    cached_items: int = 0
    code: str = ""
    timed: bool = False
    timings: Timings = field(default_factory=Timings)


def record_in(scope: MutableMapping[str, Any]) -> RequestRecord:
    """The record of the request with this ASGI scope; made at the first call."""
    record: RequestRecord | None = scope.get(_SCOPE_KEY)
    if record is None:
        record = scope[_SCOPE_KEY] = RequestRecord(request_id_of(scope))
    return record
