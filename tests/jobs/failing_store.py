"""An HTTP server between a client and a store, which fails the requests that it is told to.

Run as a program: `python failing_store.py http://127.0.0.1:PORT` prints its own address, and serves until it is
ended. `POST /-/fail` with a JSON object sets what fails from then on, `{}` nothing:

    method, path   of the request: regular expressions; `path` is searched for
    how            `error`: the answer is 500, `denied`: 403, `silence`: there is none, until the client gives up
    when           `before` the store sees the request, or `after`: it has done what was asked
    times          how many requests fail
    since          optional: none does until one with this method fits

`GET /-/failed` says how many did.
"""

import json
import re
import sys
import threading
from contextlib import suppress
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

_OF_ONE_CONNECTION = frozenset({"connection", "expect", "keep-alive", "transfer-encoding"})
_ANSWERS = {
    "error": (
        500,
        b"<Error><Code>InternalError</Code><Message>We encountered an internal error.</Message></Error>",
    ),
    "denied": (403, b"<Error><Code>InvalidAccessKeyId</Code><Message>No such key.</Message></Error>"),
}


class FailingStore(ThreadingHTTPServer):
    """Forwards to `store`, but for what its rule says."""

    daemon_threads = True

    def __init__(self, store: str) -> None:
        super().__init__(("127.0.0.1", 0), _Request)
        self.store = urlsplit(store).netloc
        self.failed = 0
        self._rule: dict[str, Any] = {}
        self._begun = False
        self._lock = threading.Lock()

    def set(self, rule: dict[str, Any]) -> None:
        """Fail other requests from now on."""
        with self._lock:
            self._rule, self._begun, self.failed = dict(rule), False, 0

    def fate(self, method: str, path: str) -> dict[str, Any]:
        """Return the rule if it fits a request, and count it."""
        with self._lock:
            rule = self._rule
            if not rule or not re.fullmatch(rule["method"], method) or not re.search(rule["path"], path):
                return {}
            self._begun = self._begun or rule.get("since", method) == method
            if not self._begun or self.failed >= rule["times"]:
                return {}
            self.failed += 1
            return rule


class _Request(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FailingStore

    def _serve(self) -> None:
        body = self._body()
        if self.path.startswith("/-/"):
            if self.command == "POST":
                self.server.set(json.loads(body))
            self._answer(200, {}, str(self.server.failed).encode())
            return
        fate = self.server.fate(self.command, self.path)
        answer = None if fate.get("when") == "before" else self._forwarded(body)
        if fate.get("how") == "silence":
            with suppress(OSError):
                self.rfile.read(1)  # until the client closes
            self.close_connection = True
        elif fate:
            status, text = _ANSWERS[fate["how"]]
            self._answer(status, {"Content-Type": "application/xml"}, text)
        elif answer:
            self._answer(*answer)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _serve  # noqa: N815  the base class looks for these

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        chunks = []
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return b"".join(chunks)

    def _forwarded(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        headers = {name: value for name, value in self.headers.items() if name.lower() not in _OF_ONE_CONNECTION}
        headers["Content-Length"] = str(len(body))
        store = HTTPConnection(self.server.store, timeout=60)
        try:
            store.request(self.command, self.path, body, headers)
            answer = store.getresponse()
            kept = {name: value for name, value in answer.getheaders() if name.lower() not in _OF_ONE_CONNECTION}
            return answer.status, kept, answer.read()
        finally:
            store.close()

    def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() != "content-length" or self.command == "HEAD":
                self.send_header(name, value)
        if self.command != "HEAD":
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the base class names it
        """Keep quiet."""


if __name__ == "__main__":
    with FailingStore(sys.argv[1]) as server:
        print(f"http://127.0.0.1:{server.server_port}", flush=True)
        server.serve_forever()
