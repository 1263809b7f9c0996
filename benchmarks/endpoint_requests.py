"""What the endpoint benchmark sends, and whether what came back is right.

Texts are sent with `encoding_format: base64`, which is what openai-python asks for unless told otherwise and what
infinity_emb serves as well: with floats both servers, and the client, would mostly write and read digits. Signals
are sent as JSON numbers with five decimals, as a sensor's log has them.
"""

from base64 import b64decode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from benchmarks.text_encoder import mixed_texts
from lakebed.platform.encoder.prepared import VectorArray
from lakebed.platform.items import Item, items_of

MODEL = "lakebed-embed"
TEXTS, TEXTS_EACH = 1024, 32
SHORT_TEXTS, SHORT_WORDS = 2048, 6
SIGNALS, SIGNALS_EACH = 64, 8
CHANNELS, LENGTH, DECIMALS = 6, 512, 5
NORM_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Requests:
    """Items, and files of requests made of them, one body on each line.

    `single`: a text each; `batch32`: 32 texts each; `short`: a short text each; `one`: always the same short text;
    `huge`: 2,048 short texts; `signals`: 8 series of 6 x 512 each.
    """

    texts: list[Item]
    short: list[Item]
    signals: list[Item]
    bodies: Mapping[str, str]


def write_requests(folder: Path) -> Requests:
    """Make every request of the benchmark, always the same ones."""
    texts = mixed_texts(TEXTS)
    short = [" ".join(text.split()[:SHORT_WORDS]) for text in mixed_texts(SHORT_TEXTS, seed=1)]
    walks = np.random.default_rng(0).standard_normal((SIGNALS, CHANNELS, LENGTH)).cumsum(axis=2) / 8
    signals = [walk.round(DECIMALS) for walk in walks]
    series = [{"time_series": signal.tolist()} for signal in signals]
    inputs: dict[str, Iterable[Any]] = {
        "single": texts,
        "batch32": _in_groups(texts, TEXTS_EACH),
        "short": short,
        "one": short[:1],
        "huge": [short],
        "signals": _in_groups(series, SIGNALS_EACH),
    }
    bodies = {name: _write(folder / f"{name}.jsonl", values) for name, values in inputs.items()}
    return Requests(items_of(texts), items_of(short), [Item.of(series=signal) for signal in signals], bodies)


def lowest_cosine(samples: Mapping[str, str], expected: VectorArray, each: int = 1) -> float:
    """Return the lowest cosine of answers (by number of request, `each` inputs in one) to the expected vectors.

    Raises ValueError for none at all, for other dimensions, and for vectors that are not of unit length.
    """
    return min(_lowest_cosine(body, expected[int(number) * each :][:each]) for number, body in samples.items())


def _lowest_cosine(body: str, wanted: VectorArray) -> float:
    found = _vectors(body)
    if found.shape != wanted.shape:
        raise ValueError(f"vectors {found.shape} came back, not {wanted.shape}")
    norms = np.linalg.norm(found, axis=1)
    if not np.allclose(norms, 1, rtol=0, atol=NORM_TOLERANCE):
        raise ValueError(f"vectors of length {norms.min():.4f} to {norms.max():.4f} came back, not 1")
    return float(((found * wanted).sum(axis=1) / norms / np.linalg.norm(wanted, axis=1)).min())


def _vectors(body: str) -> VectorArray:
    """The vectors of an answer, in the order of their indices."""
    data = sorted(orjson.loads(body)["data"], key=lambda entry: entry["index"])
    return np.stack([np.frombuffer(b64decode(entry["embedding"]), "<f4") for entry in data])


def _write(path: Path, inputs: Iterable[Any]) -> str:
    requests = ({"model": MODEL, "input": value, "encoding_format": "base64"} for value in inputs)
    path.write_bytes(b"\n".join(map(orjson.dumps, requests)))
    return str(path)


def _in_groups(values: Sequence[Any], size: int) -> list[Sequence[Any]]:
    return [values[start : start + size] for start in range(0, len(values), size)]
