"""Data to measure on: parts of items with labels, a name, a version and a digest of the content.

Knows where data lies, not what is computed on it. Nothing is downloaded.
"""

import hashlib
import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from lakebed.eval.series_files import SplitName, read_split
from lakebed.platform import synthesis
from lakebed.platform.config.suite import Classification, CrossModal, Entry
from lakebed.platform.errors import ConfigError, DatasetNotFoundError
from lakebed.platform.items import Item
from lakebed.platform.tracking import DatasetRef

LabelArray = npt.NDArray[np.str_]

_DIGEST_BYTES: Final = 16
_SHUFFLE_SEED: Final = 0
_SPLITS: Final[Mapping[str, SplitName]] = {"train": "TRAIN", "test": "TEST"}


@dataclass(frozen=True, eq=False)
class Part:
    """Items with one label each: a class, or for retrieval what a query and its answers have in common."""

    items: Sequence[Item]
    labels: LabelArray

    @cached_property
    def keys(self) -> list[str]:
        """Name of each example: its content key and, as contents may repeat, its position."""
        return [f"{item.content_key()}-{position}" for position, item in enumerate(self.items)]

    def __len__(self) -> int:
        return len(self.items)

    def limited(self, limit: int) -> "Part":
        """At most `limit` examples, always the same ones."""
        if len(self) <= limit:
            return self
        chosen = np.sort(np.random.default_rng(_SHUFFLE_SEED).permutation(len(self))[:limit])
        return Part([self.items[index] for index in chosen], self.labels[chosen])


@dataclass(frozen=True, eq=False)
class Dataset:
    """Named parts, such as `train` and `test`; `filled` counts missing values that the loader interpolated."""

    name: str
    version: str
    source: str
    parts: Mapping[str, Part]
    filled: int = 0

    @cached_property
    def digest(self) -> str:
        """32 hex digits over content keys and labels of every part, in order."""
        digest = hashlib.blake2b(b"lakebed-dataset-1", digest_size=_DIGEST_BYTES)
        for name, part in self.parts.items():
            digest.update(f"\n{name} {len(part)}".encode())
            for key, label in zip(part.keys, part.labels, strict=True):
                digest.update(f"\n{key} {label!r}".encode())
        return digest.hexdigest()

    @property
    def rows(self) -> int:
        """Items in all parts."""
        return sum(len(part) for part in self.parts.values())

    @property
    def reference(self) -> DatasetRef:
        """How a run names it."""
        return DatasetRef(self.name, self.digest, self.source, self.rows, self.version)

    def limited(self, limit: int) -> "Dataset":
        """The same data set with at most `limit` examples per part; its digest is another."""
        parts = {name: part.limited(limit) for name, part in self.parts.items()}
        return Dataset(self.name, self.version, self.source, parts, self.filled)


def names(entry: Entry) -> list[str]:
    """The data sets of an entry; raises DatasetNotFoundError or ConfigError when they are not there."""
    return [_pool_name(entry, entry.pool)] if isinstance(entry, CrossModal) else _names(entry, _place(entry)[0])


def load(entry: Entry, limit: int | None = None) -> Iterator[Dataset]:
    """Read an entry's data sets one after the other; `limit` is the most examples of a part, or of the pool."""
    if isinstance(entry, CrossModal):
        yield _generated(entry, min(entry.pool, limit or entry.pool))
        return
    folder, version_of = _place(entry)
    for name in _names(entry, folder):
        data = _labelled(folder / name, version_of)
        yield data.limited(limit) if limit else data


def _place(entry: Classification) -> tuple[Path, str]:
    if entry.source == "bundled":
        spec = importlib.util.find_spec("aeon")
        assert spec is not None  # a dependency of lakebed
        assert spec.submodule_search_locations
        return Path(spec.submodule_search_locations[0]) / "datasets" / "data", f"aeon-{version('aeon')}"
    if entry.path is None:
        raise ConfigError("this suite reads data sets from a folder", hint="give it with --data DIR")
    if not entry.path.is_dir():
        raise DatasetNotFoundError(f"{entry.path}: no such folder of data sets")
    return entry.path, entry.path.resolve().name


def _names(entry: Classification, folder: Path) -> list[str]:
    """Sets to read; one that is asked for or excluded by name must exist, so a typing error is not silent."""
    have = sorted(path.name for path in folder.iterdir() if (path / f"{path.name}_TRAIN.ts").is_file())
    for name in (*entry.names, *entry.exclude):
        if name not in have:
            raise DatasetNotFoundError(
                f"{folder}: no data set {name!r}",
                hint=f"a set is a folder with NAME_TRAIN.ts and NAME_TEST.ts; here: {', '.join(have) or 'none'}",
            )
    chosen = [name for name in entry.names or have if name not in entry.exclude]
    if not chosen:
        raise DatasetNotFoundError(
            f"{folder}: no data sets here", hint="expected folders such as GunPoint/GunPoint_TRAIN.ts"
        )
    return chosen


def _labelled(folder: Path, version_of: str) -> Dataset:
    parts, filled = {}, 0
    for part, split in _SPLITS.items():
        series, labels, missing = read_split(folder, split)
        parts[part] = Part([Item.of(series=values) for values in series], np.asarray(labels, dtype=np.str_))
        filled += missing
    return Dataset(folder.name, version_of, folder.resolve().as_uri(), parts, filled)


def _generated(entry: CrossModal, pool: int) -> Dataset:
    pairs = synthesis.captioned_series(pool, seed=entry.seed, split="test")
    captions = np.array([pair.caption for pair in pairs])  # equal captions answer for each other
    parts = {
        "text": Part([Item.of(text=pair.caption) for pair in pairs], captions),
        "signal": Part([Item.of(series=pair.series) for pair in pairs], captions),
    }
    name = _pool_name(entry, pool)
    return Dataset(name, f"seed-{entry.seed}", f"lakebed.platform.synthesis?seed={entry.seed}", parts)


def _pool_name(entry: CrossModal, pool: int) -> str:
    return f"{entry.name}-{pool}"
