"""What a vector, a score and a run depend on, as short digests: equal digest, equal result.

A score depends on model, data, probe, length and code. Code is the source of `eval/` and `platform/` with the
versions of the libraries that compute scores, not the commit: that says nothing of local changes, and changes with
every document.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import lakebed
from lakebed.eval.datasets import Dataset
from lakebed.eval.tasks.protocol import Task
from lakebed.platform.machine import machine

_OF_VECTORS: Final = ("torch", "numpy", "numba", "tokenizers")
_OF_SCORES: Final = ("numpy", "scipy", "scikit-learn", "aeon", "pytrec_eval-terrier")
_ENCODING: Final = (
    "platform/encoder",
    "platform/items.py",
    "platform/series.py",
    "eval/chunks.py",
    "eval/steady.py",
)
_MEASURING: Final = ("eval", "platform")


def vectors_key(model_digest: str, device: str, place: str) -> str:
    """What decides the bits of a model's vectors: weights, code, and what it runs on."""
    return _digest(
        {
            "model": model_digest,
            "device": device,
            "place": place,
            "processor": machine()["processor"],
            "code": _sources(_ENCODING),
            "libraries": _versions(_OF_VECTORS),
        }
    )


def task_key(model_digest: str, dimensions: int | None, data: Dataset, task: Task, lengths: Sequence[int]) -> str:
    """What decides a task's scores on a data set, at a truncation and at further ones."""
    return _digest(
        {
            "model": model_digest,
            "dimensions": dimensions,
            "lengths": list(lengths),
            "data": data.digest,
            "data_name": data.name,  # errors and examples bear it
            "task": task.name,
            "configuration": task.configuration,
            "code": measuring_code(),
        }
    )


def run_key(task_keys: Iterable[str], about: Mapping[str, Any]) -> str:
    """What decides all scores of a run, in the order of its suite; `about` is what it is called and counts as."""
    return _digest({"tasks": list(task_keys), **about})


def measuring_code() -> str:
    """A digest of the code that computes scores, libraries included."""
    return _digest({"code": _sources(_MEASURING), "libraries": _versions(_OF_SCORES)})


def _digest(values: Mapping[str, Any]) -> str:
    text = json.dumps(values, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


@cache
def _sources(places: tuple[str, ...]) -> str:
    root = Path(lakebed.__file__).parent
    digest = hashlib.sha256()
    for place in places:
        found = root / place
        for file in sorted(found.rglob("*.py")) if found.is_dir() else [found]:
            digest.update(f"{file.relative_to(root)}\n".encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()


@cache
def _versions(packages: tuple[str, ...]) -> dict[str, str]:
    return {package: version(package) for package in packages}
