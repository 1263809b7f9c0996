"""An entry of labelled series or texts: a linear probe and nearest neighbours on frozen vectors."""

from typing import Literal

from pydantic import PositiveFloat, PositiveInt

from lakebed.platform.config.base import Config
from lakebed.platform.config.entries.labelled import Labelled


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


class FewShot(Config):
    """The linear probe trained on few examples of each class, drawn at random several times."""

    shots: tuple[PositiveInt, ...] = ()
    """Examples per class, such as 1, 8 and 32; a smaller class gives all it has. Empty: not measured."""

    draws: PositiveInt = 10
    """How often examples are drawn; figures are means over draws, and their standard deviation."""

    seed: int = 0
    """Seed of the draws."""


class Classification(Labelled):
    """Labelled time series or texts with a train and test split; vectors stay frozen."""

    task: Literal["classification"]
    """Chooses this kind of entry."""

    linear_probe: LinearProbe = LinearProbe()
    """The probe."""

    neighbours: NearestNeighbours = NearestNeighbours()
    """The neighbour classifier."""

    few_shot: FewShot = FewShot()
    """The probe on few examples."""

    @property
    def in_halves(self) -> bool:
        """An archive is large enough to choose on one half and report on the other."""
        return self.source == "folder"
