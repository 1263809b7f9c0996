"""An evaluation suite as YAML: which data sets, by which tasks, with which fixed probes.

Knows neither how data is read nor how a task is computed. Every kind of entry has a file in `entries/`.
"""

from pathlib import Path
from typing import Annotated

from pydantic import Field, PositiveInt

from lakebed.platform.config.base import Config
from lakebed.platform.config.entries.anomaly import Anomaly
from lakebed.platform.config.entries.base import Sets
from lakebed.platform.config.entries.classification import Classification
from lakebed.platform.config.entries.clustering import Clustering
from lakebed.platform.config.entries.consistency import Consistency
from lakebed.platform.config.entries.cost import Cost
from lakebed.platform.config.entries.cross_modal import CrossModal
from lakebed.platform.config.entries.geometry import Geometry
from lakebed.platform.config.entries.level import Level
from lakebed.platform.config.entries.matryoshka import Matryoshka
from lakebed.platform.config.entries.pair_classification import PairClassification
from lakebed.platform.config.entries.regression import Regression
from lakebed.platform.config.entries.retrieval import Retrieval
from lakebed.platform.config.entries.robustness import Robustness
from lakebed.platform.config.entries.signal_retrieval import SignalRetrieval
from lakebed.platform.config.entries.sts import Sts
from lakebed.platform.config.entries.zero_shot import ZeroShot
from lakebed.platform.errors import ConfigError

Entry = Annotated[
    Anomaly
    | Classification
    | Clustering
    | Consistency
    | Cost
    | CrossModal
    | Geometry
    | Level
    | Matryoshka
    | PairClassification
    | Regression
    | Retrieval
    | Robustness
    | SignalRetrieval
    | Sts
    | ZeroShot,
    Field(discriminator="task"),
]


class Suite(Config):
    """A named list of data sets and tasks."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_-]*$")
    """What it is called in runs, tags and figures."""

    description: str
    """One line on what it tells."""

    dimensions: PositiveInt | None = None
    """Cut all vectors to so many dimensions (Matryoshka); none means full length. `--dimensions` overrides it."""

    entries: tuple[Entry, ...] = Field(min_length=1)
    """What is measured."""

    def with_options(
        self,
        *,
        data: Path | None = None,
        names: tuple[str, ...] = (),
        exclude: tuple[str, ...] = (),
        dimensions: int | None = None,
    ) -> "Suite":
        """Return the suite narrowed by options of one run; raises ConfigError when one of them has no effect."""
        if data is not None and not any(entry.reads_folder for entry in self.entries):
            raise ConfigError(f"suite {self.name} reads no folder of data sets", hint="leave --data out")
        given = [entry if data is None else entry.of_folder(data) for entry in self.entries]
        single = {entry.known_as for entry in given if entry.is_one_set}
        listed = {name for entry in given if isinstance(entry, Sets) for name in entry.names}
        entries: list[Entry] = []
        for entry in given:
            if entry.is_one_set or not isinstance(entry, Sets):
                if entry.known_as not in exclude and (not names or entry.known_as in names):
                    entries.append(entry)
                continue
            # A name that other entries list, and this one does not, is not asked of this one.
            elsewhere = single | (listed - set(entry.names) if entry.names else set())
            found = tuple(name for name in names if name not in elsewhere)
            if found or not names:
                left_out = (*entry.exclude, *(name for name in exclude if name not in elsewhere))
                entries.append(entry.model_copy(update={"names": found or entry.names, "exclude": left_out}))
        if not entries:
            raise ConfigError(f"suite {self.name}: these options leave no data set")
        return self.model_copy(update={"entries": tuple(entries), "dimensions": dimensions or self.dimensions})
