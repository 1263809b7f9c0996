"""Vectors to bytes: the body of a successful answer, written straight from arrays.

A superset of the three vendors' bodies. Floats are written with the fewest digits that read back as the same
float32, base64 is of little-endian bytes, so both say exactly the same numbers.
"""

import secrets
from base64 import b64encode
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import orjson

from lakebed.platform.encoder.prepared import VectorArray
from lakebed.platform.precision import EmbedDtype, Rounded, rounded


@dataclass(frozen=True)
class Usage:
    """What a request cost. Time series count in `total_tokens` only; `truncated_tokens` were cut off unread."""

    prompt_tokens: int
    total_tokens: int
    truncated_tokens: int = 0


def embeddings_body(
    model: str, vectors: VectorArray, usage: Usage, *, base64: bool, dtype: EmbedDtype = "float32"
) -> bytes:
    """The JSON body for vectors (n, dimensions), under the model name the client asked for."""
    body = {
        "id": f"emb_{secrets.token_hex(12)}",
        "object": "list",
        "model": model,
        "data": _data(rounded(vectors, dtype), base64),
        "usage": _usage(usage),
        "create_time": datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
    }
    return orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)


def _data(vectors: Rounded, base64: bool) -> list[dict[str, Any]]:
    rows = vectors.values if base64 or vectors.values.dtype != np.float16 else vectors.values.astype(np.float32)
    shown: list[Any] = [b64encode(row).decode("ascii") for row in rows] if base64 else list(rows)
    entries = [
        {"object": "embedding", "index": index, "embedding": embedding} for index, embedding in enumerate(shown)
    ]
    if vectors.scales is not None:
        for entry, scale in zip(entries, vectors.scales.tolist(), strict=True):
            entry["scale"] = scale
    return entries


def _usage(usage: Usage) -> dict[str, int]:
    counts = {"prompt_tokens": usage.prompt_tokens, "total_tokens": usage.total_tokens}
    return {**counts, "truncated_tokens": usage.truncated_tokens} if usage.truncated_tokens else counts
