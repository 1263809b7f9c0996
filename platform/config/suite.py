"""An evaluation suite as YAML: which data sets, by which tasks, with which fixed probes.

Knows neither how data is read nor how a task is computed.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from lakebed.platform.config.base import Config
from lakebed.platform.errors import ConfigError


class LinearProbe(Config):
    """StandardScaler, then multinomial logistic regression; part of a score's identity."""

    C: PositiveFloat = 1.0
    """Inverse strength of the L2 penalty."""

    max_iter: PositiveInt = 2000
    """Most L-BFGS iterations; how many were needed is logged."""


class NearestNeighbours(Config):
    """k nearest neighbours by cosine similarity, majority vote."""

    k: PositiveInt = 1
    """Number of neighbours."""


class Classification(Config):
    """Labelled time series with a default train and test split; vectors stay frozen."""

    task: Literal["classification"]
    """Chooses this kind of entry."""

    source: Literal["bundled", "folder"]
    """`bundled`: the sets that the installed aeon carries; `folder`: NAME/NAME_{TRAIN,TEST}.ts under a folder."""

    path: Path | None = None
    """The folder; given here or by `--data`."""

    names: tuple[str, ...] = ()
    """Which sets, in this order; empty means every set found."""

    exclude: tuple[str, ...] = ()
    """Sets to leave out."""

    linear_probe: LinearProbe = LinearProbe()
    """The probe."""

    neighbours: NearestNeighbours = NearestNeighbours()
    """The neighbour classifier."""

    @model_validator(mode="after")
    def _bundled_sets_have_no_path(self) -> "Classification":
        if self.source == "bundled" and self.path is not None:
            raise ValueError("path is for source: folder")
        return self


class CrossModal(Config):
    """Retrieval between captions and the series they describe, on generated pairs of the test split."""

    task: Literal["cross_modal"]
    """Chooses this kind of entry."""

    name: str = "synthetic"
    """Name of the data set in figures."""

    pool: PositiveInt = 1000
    """Pairs in the pool: every caption is asked against so many series, and the other way round."""

    seed: int = 20261121
    """Seed of the generated pairs."""


Entry = Annotated[Classification | CrossModal, Field(discriminator="task")]


class Suite(Config):
    """A named list of data sets and tasks."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_-]*$")
    """What it is called in runs, tags and figures."""

    description: str
    """One line on what it tells."""

    dimensions: PositiveInt | None = None
    """Cut vectors to so many dimensions (Matryoshka); none means full length. `--dimensions` overrides it."""

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
        if data is not None and not any(_reads_folder(entry) for entry in self.entries):
            raise ConfigError(f"suite {self.name} reads no folder of data sets", hint="leave --data out")
        generated = {entry.name for entry in self.entries if isinstance(entry, CrossModal)}
        real = [tuple(name for name in given if name not in generated) for given in (names, exclude)]
        entries: list[Entry] = []
        for entry in self.entries:
            if isinstance(entry, CrossModal):
                if entry.name not in exclude and (not names or entry.name in names):
                    entries.append(entry)
            elif not names or real[0]:
                entries.append(_narrowed(entry, data, *real))
        if not entries:
            raise ConfigError(f"suite {self.name}: these options leave no data set")
        return self.model_copy(update={"entries": tuple(entries), "dimensions": dimensions or self.dimensions})


def _reads_folder(entry: Entry) -> bool:
    return isinstance(entry, Classification) and entry.source == "folder"


def _narrowed(
    entry: Classification, data: Path | None, names: tuple[str, ...], exclude: tuple[str, ...]
) -> Classification:
    changes: dict[str, object] = {"exclude": (*entry.exclude, *exclude)}
    if names:
        changes["names"] = names
    if data is not None and _reads_folder(entry):
        changes["path"] = data
    return entry.model_copy(update=changes)
