"""An entry of labelled time series: a linear probe and nearest neighbours on frozen vectors."""

from typing import Literal

from pydantic import PositiveFloat, PositiveInt, model_validator

from lakebed.platform.config.base import Config
from lakebed.platform.config.entries.base import Sets


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


class Classification(Sets):
    """Labelled time series with a default train and test split; vectors stay frozen."""

    task: Literal["classification"]
    """Chooses this kind of entry."""

    source: Literal["bundled", "folder"]
    """`bundled`: the sets that the installed aeon carries; `folder`: NAME/NAME_{TRAIN,TEST}.ts under a folder."""

    linear_probe: LinearProbe = LinearProbe()
    """The probe."""

    neighbours: NearestNeighbours = NearestNeighbours()
    """The neighbour classifier."""

    @model_validator(mode="after")
    def _bundled_sets_have_no_path(self) -> "Classification":
        if self.source == "bundled" and self.path is not None:
            raise ValueError("path is for source: folder")
        return self

    @property
    def reads_folder(self) -> bool:
        """Bundled sets lie where aeon is installed."""
        return self.source == "folder"

    @property
    def in_halves(self) -> bool:
        """An archive is large enough to choose on one half and report on the other."""
        return self.source == "folder"
