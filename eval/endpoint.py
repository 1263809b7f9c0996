"""Asking an OpenAI-compatible endpoint for vectors, as its clients do: POST …/embeddings, in small batches.

Texts are sent as strings, which every such endpoint takes; items with a series as objects, which lakebed's takes.
The key comes from the environment, and is never logged.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from lakebed.platform.encoder.prepared import VectorArray
from lakebed.platform.errors import ConfigError, UnreachableError
from lakebed.platform.items import Item

_BATCH: Final = 16
_SECONDS: Final = 60.0
_SHOWN: Final = 200


@dataclass(frozen=True)
class Endpoint:
    """Where it is, what it calls the model, and which environment variable holds the key."""

    url: str
    model: str
    key_env: str | None = None

    def vectors(self, items: Sequence[Item], dimensions: int | None = None) -> VectorArray:
        """Vectors (n, dimensions) of items in their order; raises UnreachableError or ConfigError."""
        import httpx

        rows: list[Any] = []
        with httpx.Client(timeout=_SECONDS, headers=self._headers()) as client:
            for start in range(0, len(items), _BATCH):
                inputs = [_input(item) for item in items[start : start + _BATCH]]
                body: dict[str, Any] = {"model": self.model, "input": inputs}
                if dimensions is not None:
                    body["dimensions"] = dimensions
                try:
                    answer = client.post(f"{self.url.rstrip('/')}/embeddings", json=body)
                except httpx.HTTPError as error:
                    raise UnreachableError(f"{self.url}: {type(error).__name__}: {error}") from None
                rows += self._read(answer, len(inputs))
        try:
            return np.array(rows, np.float32).reshape(len(items), -1)
        except ValueError:
            raise UnreachableError(f"{self.url}: vectors of different lengths") from None

    def _headers(self) -> dict[str, str]:
        if self.key_env is None:
            return {}
        key = os.environ.get(self.key_env)
        if not key:
            raise ConfigError(f"{self.url}: environment variable {self.key_env} holds no key", hint="set it")
        return {"Authorization": f"Bearer {key}"}

    def _read(self, answer: Any, count: int) -> list[Any]:
        if not answer.is_success:
            raise UnreachableError(f"{self.url}: answered {answer.status_code}: {answer.text[:_SHOWN]}")
        try:
            data = sorted(answer.json()["data"], key=lambda entry: entry["index"])
            found = [entry["embedding"] for entry in data]
        except (ValueError, KeyError, TypeError):
            raise UnreachableError(f"{self.url}: the answer is no list of embeddings") from None
        if len(found) != count:
            raise UnreachableError(f"{self.url}: {len(found)} embeddings for {count} inputs")
        return found


def _input(item: Item) -> Any:
    if item.series is None:
        return item.text
    fields = {
        "text": item.text,
        "time_series": item.series.tolist(),
        "channel_names": None if item.channel_names is None else list(item.channel_names),
        "sampling_rate": item.sampling_rate,
    }
    return {name: value for name, value in fields.items() if value is not None}
