"""Long series with labelled anomalies: generated ones, one that aeon carries, or a folder of the Numenta
benchmark.

The benchmark's form (Lavin and Ahmad 2015, arXiv 1510.03336): data/CATEGORY/NAME.csv with columns timestamp and
value, and labels/combined_windows.json, {"CATEGORY/NAME.csv": [[first, last], ...]} in timestamps. Each category
is a data set, each series an example. aeon's is of the UCR anomaly archive (Wu and Keogh 2021, doi
10.1109/TKDE.2021.3112126).
"""

import importlib.util
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.csv

from lakebed.eval.datasets import Dataset
from lakebed.eval.monitored import Monitored, TruthArray, parts_of, scored
from lakebed.eval.series_files import without_missing
from lakebed.eval.sources.protocol import given_folder
from lakebed.platform import synthesis
from lakebed.platform.config.entries.anomaly import Anomaly
from lakebed.platform.errors import DatasetNotFoundError
from lakebed.platform.items import FloatArray

_WINDOWS: Final = Path("labels", "combined_windows.json")
_EXPECTED: Final = f"data/CATEGORY/NAME.csv with columns timestamp and value, and {_WINDOWS}"
_BUNDLED: Final = "KDD-TSAD_135"
_RECORDING: Final = "135_UCR_Anomaly_InternalBleeding16"
"""Arterial blood pressure, with one anomaly of 12 samples; the TRAIN file is the head of the TEST file."""


@dataclass(frozen=True)
class Anomalies:
    """The series of an entry, a data set per category.

    Series without a labelled anomaly after the head are left out.
    """

    entry: Anomaly

    def names(self) -> list[str]:
        """The sets; raises DatasetNotFoundError for one that is asked for or excluded by name and not there."""
        have = self._have()
        for name in (*self.entry.names, *self.entry.exclude):
            if name not in have:
                raise DatasetNotFoundError(
                    f"no data set {name!r} of anomalies", hint=f"there are {', '.join(have)}"
                )
        chosen = [name for name in self.entry.names or have if name not in self.entry.exclude]
        if not chosen:
            raise DatasetNotFoundError("no data set of anomalies is left", hint=f"there are {', '.join(have)}")
        return chosen

    def missing(self) -> list[str]:
        """Series that have labels but no file."""
        if self.entry.source != "folder":
            return []
        return [name for name in self._windows() if not (self._folder / "data" / name).is_file()]

    def load(self, limit: int | None = None) -> Iterator[Dataset]:
        """Read the sets, at most `limit` series of each; raises DatasetNotFoundError for what cannot be read."""
        for name in self.names():
            series = scored(self._series(name), limit)
            parts = parts_of(series, self.entry.window, self.entry.stride)
            yield Dataset(name, self._version, self._source(name), parts, sum(one.filled for one in series))

    def _have(self) -> list[str]:
        if self.entry.source == "generated":
            return [f"events-{self.entry.series}"]
        if self.entry.source == "bundled":
            return [_BUNDLED]
        found = {
            Path(name).parts[0] for name, windows in self._windows().items() if windows and self._is_there(name)
        }
        if not found:
            raise DatasetNotFoundError(f"{self._folder}: no series with labelled anomalies", hint=_EXPECTED)
        return sorted(found)

    def _series(self, name: str) -> Iterator[Monitored]:
        if self.entry.source == "generated":
            yield from self._generated()
        elif self.entry.source == "bundled":
            yield self._bundled()
        else:
            for path, windows in sorted(self._windows().items()):
                if Path(path).parts[0] == name and self._is_there(path):
                    yield self._labelled(path, windows)

    def _generated(self) -> Iterator[Monitored]:
        drawn = synthesis.eventful_series(
            self.entry.series, seed=self.entry.seed, length=self.entry.samples, head=self.entry.head
        )
        for number, one in enumerate(drawn):
            truth = np.zeros(self.entry.samples, np.bool_)
            for start, stop in one.stretches:
                truth[start:stop] = True
            yield Monitored(f"events-{number:03d}", one.series, truth, int(self.entry.head * len(truth)))

    def _bundled(self) -> Monitored:
        values, truth = _values_and_truth(_aeon() / _BUNDLED / f"{_RECORDING}_TEST.csv")
        known, _ = _values_and_truth(_aeon() / _BUNDLED / f"{_RECORDING}_TRAIN.csv")
        return Monitored(_RECORDING, values, truth, known.shape[1])

    def _labelled(self, name: str, windows: Sequence[Sequence[str]]) -> Monitored:
        path = self._folder / "data" / name
        table = _table(path)
        if {"timestamp", "value"} - set(table.column_names):
            raise DatasetNotFoundError(f"{path}: columns {table.column_names}", hint=f"expected {_EXPECTED}")
        try:
            times = table.column("timestamp").cast(pa.timestamp("us")).to_numpy()
            bounds = np.array(windows, dtype="datetime64[us]").reshape(-1, 2)
        except (pa.ArrowInvalid, ValueError) as error:
            raise DatasetNotFoundError(f"{path}: a timestamp cannot be read: {error}") from None
        truth = ((times >= bounds[:, :1]) & (times <= bounds[:, 1:])).any(axis=0)
        values, filled = _numbers(table.select(["value"]), path)
        return Monitored(name.removesuffix(".csv"), values, truth, int(self.entry.head * len(truth)), filled)

    @property
    def _folder(self) -> Path:
        return given_folder(self.entry.path, _EXPECTED)

    @property
    def _version(self) -> str:
        if self.entry.source == "generated":
            return f"seed-{self.entry.seed}"
        return f"aeon-{version('aeon')}" if self.entry.source == "bundled" else self._folder.name

    def _source(self, name: str) -> str:
        if self.entry.source == "generated":
            return f"lakebed.platform.synthesis?seed={self.entry.seed}"
        return (_aeon() / name if self.entry.source == "bundled" else self._folder / "data" / name).as_uri()

    def _is_there(self, name: str) -> bool:
        return (self._folder / "data" / name).is_file()

    def _windows(self) -> dict[str, Any]:
        path = self._folder / _WINDOWS
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DatasetNotFoundError(
                f"{path}: cannot be read as JSON: {error}", hint=f"expected {_EXPECTED}"
            ) from None
        if not isinstance(content, dict):
            raise DatasetNotFoundError(f"{path}: holds no mapping", hint=f"expected {_EXPECTED}")
        return content


def _aeon() -> Path:
    spec = importlib.util.find_spec("aeon")
    assert spec is not None  # a dependency of lakebed
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0]) / "datasets" / "data"


def _values_and_truth(path: Path) -> tuple[FloatArray, TruthArray]:
    table = _table(path)
    names = [name for name in table.column_names if name not in ("timestamp", "is_anomaly")]
    return _numbers(table.select(names), path)[0], table.column("is_anomaly").to_numpy() > 0


def _table(path: Path) -> pa.Table:
    try:
        return pa.csv.read_csv(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise DatasetNotFoundError(f"{path}: cannot be read as CSV: {error}") from None


def _numbers(table: pa.Table, path: Path) -> tuple[FloatArray, int]:
    """Channels x samples, and how many missing values were interpolated."""
    try:
        columns = [column.cast(pa.float64()).to_numpy() for column in table.columns]
    except pa.ArrowInvalid as error:
        raise DatasetNotFoundError(f"{path}: a value is no number: {error}") from None
    return without_missing(columns, str(path))
