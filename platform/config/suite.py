"""An evaluation suite as YAML: which data sets, by which tasks, with which fixed probes.

Knows neither how data is read nor how a task is computed.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from lakebed.platform.config.base import Config


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
        """Return the suite as options of one run change it."""
        changes: dict[str, object] = {}
        if data is not None:
            changes["path"] = data
        if names:
            changes["names"] = names
        entries = tuple(
            entry.model_copy(update={**changes, "exclude": (*entry.exclude, *exclude)})
            if isinstance(entry, Classification) and (entry.source == "folder" or data is None)
            else entry
            for entry in self.entries
        )
        return self.model_copy(update={"entries": entries, "dimensions": dimensions or self.dimensions})
