"""An entry of labelled time series measured at several lengths of the same vectors."""

from typing import Literal

from pydantic import Field, PositiveInt, model_validator

from lakebed.platform.config.entries.base import Sets
from lakebed.platform.config.entries.classification import Classification, LinearProbe, NearestNeighbours


class Matryoshka(Sets):
    """What classification keeps of its accuracy as vectors are cut shorter."""

    task: Literal["matryoshka"]
    """Chooses this kind of entry."""

    source: Literal["bundled", "folder"]
    """`bundled`: the sets that the installed aeon carries; `folder`: NAME/NAME_{TRAIN,TEST}.ts under a folder."""

    lengths: tuple[PositiveInt, ...] = Field(default=(32, 64, 128, 256, 384), min_length=1)
    """Lengths to cut the vectors to; full length is always measured, and longer ones are left out."""

    linear_probe: LinearProbe = LinearProbe()
    """The probe, as for classification."""

    neighbours: NearestNeighbours = NearestNeighbours()
    """The neighbour classifier, as for classification."""

    @model_validator(mode="after")
    def _lengths_are_its_own(self) -> "Matryoshka":
        if self.source == "bundled" and self.path is not None:
            raise ValueError("path is for source: folder")
        if self.dimensions:
            raise ValueError("dimensions: say them as lengths")
        return self

    @property
    def reads_folder(self) -> bool:
        """Bundled sets lie where aeon is installed."""
        return self.source == "folder"

    @property
    def labelled(self) -> Classification:
        """The sets, as classification reads them."""
        return Classification(
            task="classification", source=self.source, path=self.path, names=self.names, exclude=self.exclude
        )
