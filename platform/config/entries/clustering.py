"""An entry of labelled data whose classes are to be found without the labels."""

from typing import Literal

from pydantic import PositiveInt

from lakebed.platform.config.base import Config
from lakebed.platform.config.entries.labelled import Labelled


class KMeans(Config):
    """k-means, k being the number of classes; part of a score's identity."""

    restarts: PositiveInt = 5
    """Initialisations of one clustering, of which the one with the least inertia is kept."""

    clusterings: PositiveInt = 5
    """How many clusterings are made, each with a seed of its own; figures are means over them."""

    seed: int = 0
    """The first seed."""


class Clustering(Labelled):
    """Train and test part together, clustered."""

    task: Literal["clustering"]
    """Chooses this kind of entry."""

    kmeans: KMeans = KMeans()
    """The clustering."""
