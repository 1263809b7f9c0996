"""An entry of labelled time series whose test part is also measured perturbed."""

from typing import Any, Literal

from pydantic import Field, PositiveFloat, model_validator

from lakebed.platform.config.entries.base import Sets
from lakebed.platform.config.entries.classification import Classification, LinearProbe, NearestNeighbours


class Robustness(Sets):
    """Labelled time series: heads are fitted on clean vectors, then asked about perturbed test signals."""

    task: Literal["robustness"]
    """Chooses this kind of entry."""

    source: Literal["bundled", "folder"]
    """`bundled`: the sets that the installed aeon carries; `folder`: NAME/NAME_{TRAIN,TEST}.ts under a folder."""

    linear_probe: LinearProbe = LinearProbe()
    """The probe, as for classification."""

    neighbours: NearestNeighbours = NearestNeighbours()
    """The neighbour classifier, as for classification."""

    noise_db: tuple[int, ...] = (20, 10, 0)
    """Signal-to-noise ratios in dB at which Gaussian noise is added, against each channel's own variance."""

    missing: tuple[float, ...] = (0.1, 0.5)
    """Shares of samples that are lost at random and interpolated as a loader does."""

    resampled: tuple[PositiveFloat, ...] = (0.5, 2.0)
    """Factors of the sampling rate."""

    permuted: bool = True
    """Whether channels are put each in the place of the next; series of one channel have no such copy."""

    gain: tuple[PositiveFloat, ...] = (2.0,)
    """Factors that the values are multiplied by."""

    offset: tuple[float, ...] = (1.0,)
    """Shifts of all values, in each channel's own standard deviations."""

    typos: tuple[float, ...] = (0.05,)
    """Shares of letters of a text that change places with the next; of sets of texts."""

    upper_case: bool = True
    """Whether texts are also asked in capitals; of sets of texts."""

    seed: int = 20261121
    """Seed of noise, of what is lost and of typing errors."""

    examples: int = Field(default=200, ge=2)
    """At most so many test examples of each set are perturbed, always the same ones."""

    @model_validator(mode="after")
    def _can_be_made(self) -> "Robustness":
        if self.source == "bundled" and self.path is not None:
            raise ValueError("path is for source: folder")
        if not all(0 < share < 1 for share in (*self.missing, *self.typos)):
            raise ValueError("missing, typos: shares must lie between 0 and 1")
        return self

    @property
    def reads_folder(self) -> bool:
        """Bundled sets lie where aeon is installed."""
        return self.source == "folder"

    @property
    def perturbed_by(self) -> dict[str, Any]:
        """Everything that decides what the copies are."""
        return self.model_dump(
            mode="json",
            include={
                "noise_db",
                "missing",
                "resampled",
                "permuted",
                "gain",
                "offset",
                "typos",
                "upper_case",
                "seed",
            },
        )

    @property
    def labelled(self) -> Classification:
        """The clean sets, as classification reads them."""
        return Classification(
            task="classification", source=self.source, path=self.path, names=self.names, exclude=self.exclude
        )
