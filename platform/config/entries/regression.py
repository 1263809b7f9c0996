"""An entry of time series or rows with a number to be predicted: ridge regression on frozen vectors."""

from typing import Literal

from pydantic import Field, PositiveFloat

from lakebed.platform.config.base import Config
from lakebed.platform.config.entries.labelled import Labelled


class RidgeProbe(Config):
    """StandardScaler, then ridge regression; part of a score's identity."""

    alphas: tuple[PositiveFloat, ...] = Field(default=(1.0, 10.0, 100.0, 1e3, 1e4, 1e5), min_length=1)
    """Strengths of the L2 penalty; the train part chooses one of them by leave-one-out error, which is logged."""


class Regression(Labelled):
    """Examples with a number each, and a train and test split; vectors stay frozen."""

    task: Literal["regression"]
    """Chooses this kind of entry."""

    ridge: RidgeProbe = RidgeProbe()
    """The probe."""
