"""Making a model from a recipe: fit the projection, train the alignment head, measure, write the artifact.

Reads nothing but the text weights: every series is generated from the seed. The artifact appears whole or not at
all.
"""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lakebed.jobs import alignment
from lakebed.jobs.projection import Projection, fit_projection, principal_rotation
from lakebed.platform.config.recipe import Recipe
from lakebed.platform.corpus import varied_series
from lakebed.platform.encoder.artifact import CONFIG, Artifact, write_artifact
from lakebed.platform.encoder.convolution import LENGTH
from lakebed.platform.encoder.layout import Layout
from lakebed.platform.encoder.multimodal import choose_device, configuration, fast_dtype
from lakebed.platform.encoder.signal_tower import LEVEL_DIMENSIONS, SignalTower, SignalWeights, prepare_channels
from lakebed.platform.encoder.text_tower import TextSpec, TextTower
from lakebed.platform.errors import ArtifactError, ConfigError
from lakebed.platform.synthesis import captioned_series

Say = Callable[[str], None]

_TEST_PAIRS = 1000


def train(recipe: Recipe, folder: Path, say: Say) -> Artifact:
    """Make a model in `folder`, telling progress through `say`; raises before any work if one is there."""
    if (folder / CONFIG).exists():
        raise ArtifactError(
            f"{folder}: a model is there already", hint="choose another folder, or remove it first"
        )
    started = time.monotonic()
    layout = Layout(recipe.pattern, recipe.detail_share)
    spec = TextSpec.of(recipe.text)
    device = choose_device("cpu")
    tower = TextTower(spec, device, fast_dtype(device))
    if tower.dimensions != layout.shared:
        raise ConfigError(
            f"pattern: {layout.shared} shared dimensions, but the text weights have {tower.dimensions}"
        )
    say(f"fitting the projection on {recipe.corpus} generated series, {recipe.views} versions of each")
    projection = fit_projection(recipe, layout.detail - LEVEL_DIMENSIONS)
    head, figures = _train_head(recipe, tower, projection, say)
    weights = _with_rotation(recipe, projection, head, layout.detail)
    say("writing the artifact")
    config = configuration(spec, layout, recipe.name, recipe.model_dump(mode="json"))
    artifact = write_artifact(folder, config, weights.tensors(), _card(recipe, spec, layout, figures))
    say(f"made {folder} in {time.monotonic() - started:.0f} s, digest {artifact.digest[:12]}")
    return artifact


def _train_head(
    recipe: Recipe, tower: TextTower, projection: Projection, say: Say
) -> tuple[alignment.Head, dict[str, float]]:
    say(f"describing {recipe.pairs} generated series in words")
    drawn = captioned_series(recipe.pairs, seed=recipe.seed, split="train", brief=recipe.brief)
    pairs = alignment.pairs_of(drawn, tower, projection.biases, projection.mean)
    say(f"training the alignment head, {recipe.epochs} epochs")
    head = alignment.train_head(
        pairs, recipe, lambda epoch, loss: say(f"  epoch {epoch}/{recipe.epochs}: loss {loss:.3f}")
    )
    held_out = captioned_series(_TEST_PAIRS, seed=recipe.seed, split="test")
    test = alignment.pairs_of(held_out, tower, projection.biases, projection.mean)
    figures = alignment.recall(test.texts, alignment.embed_signals(test, head), (1, 5, 10))
    say("held-out retrieval: " + ", ".join(f"{name} {value:.3f}" for name, value in figures.items()))
    return head, figures


def _with_rotation(recipe: Recipe, projection: Projection, head: alignment.Head, detail: int) -> SignalWeights:
    """Find the order of the detail dimensions on generated series of one to four channels."""
    parts: dict[str, Any] = {name: weight.numpy() for name, weight in head.items()}
    parts |= {"biases": projection.biases, "mean": projection.mean, "projection": projection.matrix}
    plain = SignalWeights(**parts, rotation=np.eye(detail, dtype=np.float32))
    generator = np.random.default_rng([recipe.seed, 2])
    series = [varied_series(1 + place % 4, LENGTH, generator) for place in range(recipe.corpus)]
    channels, levels = prepare_channels(series)
    _, vectors = SignalTower(plain, torch.device("cpu")).forward(channels, levels)
    return SignalWeights(**parts, rotation=principal_rotation(vectors.numpy()))


def _card(recipe: Recipe, spec: TextSpec, layout: Layout, figures: Mapping[str, float]) -> str:
    measured = "\n".join(f"| {name} | {value:.3f} |" for name, value in sorted(figures.items()))
    return f"""# {recipe.name}

Embeds text, multi-channel time series, or both, into {layout.dimensions} dimensions of unit length.

- **Text**: `{spec.source}` (sha256 `{spec.sha256}`),
  {spec.pooling}-pooled, {spec.max_tokens} tokens; the packaged weights are all-MiniLM-L6-v2, Apache-2.0.
- **Signals**: fixed random-convolution features (MiniRocket's kernels, arXiv 2012.08791), whitened against what
  altering a series changes; channels bound by index. A trained head puts a signal near the text of its
  description.
- **Layout**: shared and detail chunks {list(layout.pattern)}; detail share {layout.detail_share}.

## Data

Generated series only, from seed {recipe.seed}: {recipe.corpus} unlabelled, {recipe.pairs} with captions. No
recorded data set, UCR and UEA included, was read.

## Measured while training

Retrieval among {_TEST_PAIRS} generated pairs whose sentences and attribute combinations were not trained on:

| figure | value |
|---|---|
{measured}

Made by `lakebed train --seed {recipe.seed}`; the whole recipe is in config.json. Other figures: `lakebed eval`.

## Limits

Text beyond {spec.max_tokens} tokens is cut, and reported. English text. Descriptions are matched by general
shape, level and events; domain words ("arrhythmia") are only as good as the text weights. A series is resampled
to {LENGTH} samples per channel: detail finer than 1/{LENGTH} of its length is averaged away.
"""
