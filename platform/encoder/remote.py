"""A model behind a URL as an encoder: any server that answers POST /v1/embeddings as OpenAI's does.

    http://host:8000/v1?model=lakebed-embed       a served model, by its name there
    https://host/v1                               the only model that the server lists

A server of lakebed's own says version and digest in its headers and takes time series; of any other nothing is
known but its vectors, so those of a few fixed texts identify it, and it is sent texts only. The key is read from
LAKEBED_API_KEY when a request is made, and stands in no message.
"""

import base64
import hashlib
import os
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Self
from urllib.parse import parse_qs, quote, urlsplit, urlunsplit

import httpx
import numpy as np
import orjson

from lakebed.platform.encoder.prepared import Prepared, Ragged, VectorArray
from lakebed.platform.encoder.protocol import EncoderInfo, truncate
from lakebed.platform.errors import ConfigError, ModelNotFoundError, UnreachableError
from lakebed.platform.items import Item

KEY_VARIABLE: Final = "LAKEBED_API_KEY"
"""The environment variable that holds the key."""

REQUESTS_AT_ONCE: Final = 8
"""How many requests are under way at most."""

_DIGEST_HEADER: Final = "x-lakebed-model-digest"
_ATTEMPTS: Final = 6
_FIRST_PAUSE: Final = 0.5
_LONGEST_PAUSE: Final = 30.0
_TIMEOUT: Final = httpx.Timeout(120, connect=5)
_PASSING: Final = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
_CHARACTERS_PER_TOKEN: Final = 4
_SAMPLES_PER_TOKEN: Final = 16
_PROBES: Final = (
    "A pump rattles.",
    "the quarterly report was late",
    "Ein Fluss steigt nach dem Regen.",
    "x = 3.14159; print(x)",
    "0.1 0.2 0.3 0.5 0.8 1.3",
    "temperature rises slowly, then falls at once",
)
_DECIMALS: Final = 3


@dataclass(frozen=True)
class Endpoint:
    """Where a model is served: `base` ends in /v1 or so; `model` is its name there, None for the only one."""

    base: str
    model: str | None = None

    @classmethod
    def of(cls, reference: str) -> Self:
        """Read a URL such as https://HOST/v1?model=NAME; raises ConfigError for another form."""
        try:
            parts = urlsplit(reference)
            host, query = parts.hostname, parse_qs(parts.query, strict_parsing=bool(parts.query))
        except ValueError:
            host, query = None, {}
        if not host or set(query) - {"model"} or len(query.get("model", [""])) != 1:
            raise ConfigError(f"model {_shown(reference)!r}: write https://HOST/v1 or https://HOST/v1?model=NAME")
        if parts.username or parts.password:
            raise ConfigError(
                f"model {_shown(reference)!r}: no key in a URL, it would be logged", hint=f"set {KEY_VARIABLE}"
            )
        base = urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/"), "", ""))
        return cls(base, query.get("model", [None])[0])

    @property
    def url(self) -> str:
        """What `of` reads."""
        return self.base if self.model is None else f"{self.base}?model={quote(self.model, safe='/@:')}"


class RemoteEncoder:
    """A served model. `forward` makes one request and may run on several threads."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._client = _Client(endpoint.base)
        self._model = endpoint.model or self._client.only_model()
        vectors, digest = self._client.embed(self._model, list(_PROBES), native=False)
        self._native_digest = digest
        self._info = EncoderInfo(
            Endpoint(endpoint.base, self._model).url,
            digest or _fingerprint(endpoint.base, self._model, _unit(vectors)),
            vectors.shape[1],
            0,
        )

    @property
    def info(self) -> EncoderInfo:
        """Its URL as name; nobody knows how many tokens it reads, so `max_tokens` is 0."""
        return self._info

    @property
    def lanes(self) -> int:
        """How many requests may be under way."""
        return REQUESTS_AT_ONCE

    @property
    def is_native(self) -> bool:
        """Whether it is one of lakebed's own."""
        return self._native_digest is not None

    def takes(self, item: Item) -> bool:
        """Only a server of lakebed's own takes time series."""
        return self.is_native or item.series is None

    def prepare(self, items: Sequence[Item]) -> Prepared:
        """Write each item as JSON, as the server reads it; tokens are guessed by length."""
        bodies = [np.frombuffer(orjson.dumps(_input(item, native=self.is_native)), np.uint8) for item in items]
        lengths = [-(-len(item.text or "") // _CHARACTERS_PER_TOKEN) for item in items]
        tokens = np.array(lengths, np.int64)
        samples = np.array([item.samples for item in items], np.int64)
        costs = np.maximum(1, tokens + samples // _SAMPLES_PER_TOKEN)
        return Prepared({"json": Ragged.of(bodies, np.uint8)}, costs, tokens, np.zeros_like(tokens), samples)

    def forward(self, work: Prepared) -> VectorArray:
        """Make one request; raises UnreachableError, or ConfigError when the server refuses.

        Raises ConfigError as well when the server has another model by now.
        """
        column = work.columns["json"]
        inputs = [orjson.loads(column.row(row).tobytes()) for row in range(len(work))]
        vectors, digest = self._client.embed(self._model, inputs, native=self.is_native)
        if digest != self._native_digest:
            raise ConfigError(f"{self._info.name}: the server has another model than when this began")
        return vectors if self.is_native else _unit(vectors)

    def finish(self, vectors: VectorArray, dimensions: int | None = None) -> VectorArray:
        """Truncate and renormalise."""
        return truncate(vectors, dimensions)


class _Client:
    """Requests with retries, and their errors in one line."""

    def __init__(self, base: str) -> None:
        self._base = base
        self._has_answered = False

    @cached_property
    def _http(self) -> httpx.Client:
        limits = httpx.Limits(max_connections=REQUESTS_AT_ONCE, max_keepalive_connections=REQUESTS_AT_ONCE)
        return httpx.Client(timeout=_TIMEOUT, limits=limits)

    def only_model(self) -> str:
        """The name of the one model that the server lists."""
        names = [str(one["id"]) for one in self._json("GET", "/models").get("data", [])]
        if len(names) != 1:
            shown = ", ".join(names[:10]) or "none is listed"
            raise ModelNotFoundError(
                f"{self._base}: which model? It serves {shown}", hint=f"write {self._base}?model=NAME"
            )
        return names[0]

    def embed(self, model: str, inputs: Sequence[Any], *, native: bool) -> tuple[VectorArray, str | None]:
        """Vectors (n, dimensions) float32 of inputs, and the digest that a server of lakebed's own tells."""
        body: dict[str, Any] = {"model": model, "input": list(inputs)}
        body |= {"encoding_format": "base64", "truncate": "end"} if native else {"encoding_format": "float"}
        answer = self._answer("POST", "/embeddings", body)
        try:
            data = sorted(orjson.loads(answer.content)["data"], key=lambda one: one["index"])
            vectors = np.stack([_vector(one["embedding"]) for one in data])
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{self._base}: the answer is no list of embeddings: {error}") from None
        if len(vectors) != len(inputs):
            raise ConfigError(f"{self._base}: {len(vectors)} vectors for {len(inputs)} inputs")
        return vectors, answer.headers.get(_DIGEST_HEADER)

    def _json(self, method: str, path: str) -> dict[str, Any]:
        try:
            found = orjson.loads(self._answer(method, path).content)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise ConfigError(f"{self._base}{path}: the answer is no JSON object")
        return found

    def _answer(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> httpx.Response:
        """Ask until there is an answer that more asking would not change; a server that never answered is away."""
        content = None if body is None else orjson.dumps(body)
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                answer = self._http.request(method, self._base + path, content=content, headers=_headers())
            except httpx.InvalidURL as error:
                raise ConfigError(f"{self._base}: {error}") from None
            except httpx.TransportError as error:
                if attempt == _ATTEMPTS or not self._has_answered:
                    reason = str(error) or type(error).__name__
                    raise UnreachableError(f"{self._base}: no server answers: {reason}") from None
                _pause(attempt, None)
                continue
            self._has_answered = True
            if answer.status_code < 400:
                return answer
            if answer.status_code not in _PASSING or attempt == _ATTEMPTS:
                raise self._refusal(answer)
            _pause(attempt, answer.headers.get("retry-after"))
        raise AssertionError  # the last attempt returned or raised

    def _refusal(self, answer: httpx.Response) -> Exception:
        said = f"{self._base}: HTTP {answer.status_code}: {_message(answer)}"
        if answer.status_code in (401, 403):
            return ConfigError(said, hint=f"the key is read from {KEY_VARIABLE}")
        if answer.status_code == 404:
            return ModelNotFoundError(said)
        return UnreachableError(said) if answer.status_code in _PASSING else ConfigError(said)


def _headers() -> dict[str, str]:
    key = os.environ.get(KEY_VARIABLE)
    return {"content-type": "application/json", **({"authorization": f"Bearer {key}"} if key else {})}


def _pause(attempt: int, retry_after: str | None) -> None:
    """Wait as long as the server asks for, else twice as long every time, more or less."""
    try:
        seconds = float(retry_after or "")
    except ValueError:
        seconds = _FIRST_PAUSE * 2 ** (attempt - 1) * random.uniform(0.75, 1.25)
    time.sleep(min(max(0.0, seconds), _LONGEST_PAUSE))


def _message(answer: httpx.Response) -> str:
    """What a server says of an error, in any of the forms that servers have."""
    try:
        body = orjson.loads(answer.content)
    except ValueError:
        return answer.text.strip()[:200] or answer.reason_phrase
    error = body.get("error", body.get("detail", body)) if isinstance(body, dict) else body
    return str(error.get("message", error) if isinstance(error, dict) else error)[:300]


def _input(item: Item, *, native: bool) -> Any:
    if not native:
        return item.text
    fields = {
        "text": item.text,
        "time_series": None if item.series is None else item.series.tolist(),
        "channel_names": None if item.channel_names is None else list(item.channel_names),
        "sampling_rate": item.sampling_rate,
    }
    return {name: value for name, value in fields.items() if value is not None}


def _vector(value: Any) -> VectorArray:
    if isinstance(value, str):
        return np.frombuffer(base64.b64decode(value), "<f4").astype(np.float32)
    return np.asarray(value, np.float32)


def _unit(vectors: VectorArray) -> VectorArray:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(norms > 0, norms, 1), np.float32)


def _fingerprint(base: str, model: str, vectors: VectorArray) -> str:
    """Identify a model by its cosines between fixed texts: servers round the last digits anew every time."""
    cosines = np.round(vectors.astype(np.float64) @ vectors.T, _DECIMALS) + 0.0
    above = cosines[np.triu_indices(len(vectors), 1)]
    text = f"{base}\n{model}\n{vectors.shape[1]}\n{above.tolist()}"
    return hashlib.sha256(text.encode()).hexdigest()


def _shown(reference: str) -> str:
    """A URL without what may be a password."""
    scheme, mark, rest = reference.partition("://")
    return f"{scheme}{mark}{rest.rpartition('@')[2]}"
