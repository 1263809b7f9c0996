"""An entry of long series with labelled anomalies, found by distance to normal windows."""

from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from lakebed.platform.config.entries.base import Sets


class Anomaly(Sets):
    """Long series whose head is taken for normal; what is far from every normal window is anomalous."""

    task: Literal["anomaly"]
    """Chooses this kind of entry."""

    source: Literal["generated", "bundled", "folder"] = "generated"
    """`generated`: steady series with events put in; `bundled`: a recording that the installed aeon carries;
    `folder`: data/CATEGORY/*.csv and labels/combined_windows.json, the form of the Numenta benchmark."""

    window: int = Field(default=128, ge=8)
    """Samples of a window."""

    stride: PositiveInt = 16
    """Samples from the start of a window to the start of the next."""

    head: PositiveFloat = Field(default=0.15, lt=1)
    """Share of a series, from its start, that normal windows are taken from; labelled ones are left out."""

    neighbours: PositiveInt = 3
    """A window's score is its mean cosine distance to so many nearest normal windows of its own series."""

    buffer: PositiveInt = 64
    """Widest margin, in samples, around an anomaly that the volumes under the surface allow for."""

    series: PositiveInt = 12
    """How many series are generated."""

    samples: int = Field(default=4096, ge=512)
    """Samples of each of them."""

    seed: int = 20261121
    """Seed of the generated series."""

    @model_validator(mode="after")
    def _only_folders_have_a_path(self) -> "Anomaly":
        if self.source != "folder" and self.path is not None:
            raise ValueError("path is for source: folder")
        if self.stride > self.window:
            raise ValueError("stride must not be longer than window: samples between would have no score")
        return self

    @property
    def reads_folder(self) -> bool:
        """Generated and bundled series lie in no folder of the user's."""
        return self.source == "folder"
