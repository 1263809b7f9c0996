"""Making a model from a recipe: fit the projection, train both description heads, measure, write the artifact.

Reads nothing but the text weights: every series and sentence is generated from the seed. The artifact appears
whole or not at all.
"""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lakebed.jobs import alignment
from lakebed.jobs.canaries import record_canaries
from lakebed.jobs.projection import Projection, fit_projection, random_rotation
from lakebed.jobs.prose import sentences
from lakebed.platform.captions import bare_phrases
from lakebed.platform.config.recipe import Recipe
from lakebed.platform.encoder.artifact import CONFIG, Artifact, write_artifact
from lakebed.platform.encoder.convolution import LENGTH
from lakebed.platform.encoder.description import DescriptionSpec
from lakebed.platform.encoder.layout import Layout
from lakebed.platform.encoder.multimodal import MultiModalEncoder, Parts, choose_device, configuration, fast_dtype
from lakebed.platform.encoder.prepared import VectorArray
from lakebed.platform.encoder.signal_tower import Shares, SignalWeights
from lakebed.platform.encoder.text_tower import TextSpec, TextTower
from lakebed.platform.encoder.training_record import TrainingRecord, record_training
from lakebed.platform.errors import ArtifactError, ConfigError
from lakebed.platform.outlines import outlined_series
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
    parts = Parts(
        TextSpec.of(recipe.text),
        DescriptionSpec(recipe.layer, recipe.angle),
        Shares(recipe.description_share, recipe.meaning_share, recipe.level_share),
        Layout(recipe.pattern),
    )
    device = choose_device("cpu")
    tower = TextTower(parts.text, device, fast_dtype(device))
    if tower.dimensions != parts.layout.shared:
        raise ConfigError(
            f"pattern: {parts.layout.shared} shared dimensions, but the text weights have {tower.dimensions}"
        )
    say(f"fitting the projection on {recipe.corpus} generated series, {recipe.views} versions of each")
    projection = fit_projection(recipe, recipe.shapes)
    tensors, figures = _train_heads(recipe, tower, projection, say)
    say("writing the artifact")
    config = configuration(parts, recipe.name, recipe.model_dump(mode="json"))
    artifact = write_artifact(folder, config, tensors, _card(recipe, parts, figures))
    record_training(folder, TrainingRecord.of(()))  # nothing recorded was read: all is generated from the recipe
    record_canaries(MultiModalEncoder.load(folder, device="cpu"), folder)
    say(f"made {folder} in {time.monotonic() - started:.0f} s, digest {artifact.digest[:12]}")
    return artifact


def _train_heads(
    recipe: Recipe, tower: TextTower, projection: Projection, say: Say
) -> tuple[dict[str, Any], dict[str, float]]:
    """Every tensor of the model, and how well texts and signals unseen in training find each other."""
    say(f"describing {recipe.pairs} generated series and {recipe.outlines} short curves in words")
    seed, layer = recipe.seed, recipe.layer
    families = [
        alignment.pairs_of(drawn, tower, layer, projection)
        for drawn in (
            captioned_series(recipe.pairs, seed=seed, split="train", brief=recipe.brief),
            outlined_series(recipe.outlines, seed=seed),
        )
    ]
    say(f"training the description heads, {recipe.epochs} epochs")
    text, signal = alignment.train_heads(
        families, recipe, lambda epoch, loss: say(f"  epoch {epoch}/{recipe.epochs}: loss {loss:.3f}")
    )
    rotation = _principal_rotation(torch.cat([alignment.described_by(family.texts, text) for family in families]))
    text, signal = text | {"out": text["out"] @ rotation}, signal | {"head_out": signal["head_out"] @ rotation}
    say(f"fitting the gate on {recipe.prose} sentences that describe nothing")
    phrases = alignment.texts_of(bare_phrases(recipe.phrases, seed=seed), tower, layer)
    descriptions = [alignment.evidence_of(texts, text) for texts in (*(f.texts for f in families), phrases)]
    gate = alignment.fit_gate(descriptions, alignment.evidence_of(_prose(recipe, tower), text))
    text |= dict(zip(("gate", "gate_bias"), gate, strict=True))
    weights = _signal_weights(recipe, families, projection, text, signal)
    held_out = captioned_series(_TEST_PAIRS, seed=seed, split="test")
    test = alignment.pairs_of(held_out, tower, layer, projection)
    figures = alignment.recall(
        alignment.described_by(test.texts, text), alignment.described(test, signal), (1, 5, 10)
    )
    say("held-out retrieval: " + ", ".join(f"{name} {value:.3f}" for name, value in figures.items()))
    named = {f"description.{name}": _stored(name, weight) for name, weight in text.items()}
    return weights.tensors() | named, figures


def _prose(recipe: Recipe, tower: TextTower) -> alignment.Texts:
    ranked = tower.tokenizer.get_vocab()
    drawn = sentences(sorted(ranked, key=ranked.__getitem__), recipe.prose, seed=recipe.seed)
    return alignment.texts_of(drawn, tower, recipe.layer)


def _signal_weights(
    recipe: Recipe,
    families: list[alignment.Pairs],
    projection: Projection,
    text: alignment.Head,
    signal: alignment.Head,
) -> SignalWeights:
    """The signal tower's weights; what training scaled or centred is taken into them."""
    plain = torch.cat([family.texts.plain for family in families])
    said = torch.cat([alignment.described_by(family.texts, text) for family in families])
    meaning, image = alignment.fit_meaning(said, plain, recipe.meaning)
    head = {name: weight.numpy() for name, weight in signal.items()}
    head["head_features"] = projection.scale[:, None] * head["head_features"]
    return SignalWeights(
        biases=projection.biases,
        mean=projection.mean,
        projection=projection.matrix,
        fill=_complement(image, np.random.default_rng([recipe.seed, 2])),
        meaning=meaning,
        **head,
    )


def _complement(image: VectorArray, generator: np.random.Generator) -> VectorArray:
    """Random orthonormal rows (s - r, s) that are orthogonal to the orthonormal rows (r, s) of `image`."""
    rank, width = image.shape
    _, _, directions = np.linalg.svd(image.astype(np.float64))
    return np.asarray(random_rotation(width - rank, generator) @ directions[rank:], np.float32)


def _principal_rotation(vectors: torch.Tensor) -> torch.Tensor:
    """Orthogonal (d, d) that puts the directions of most energy first, for truncation. Not centred."""
    directions: torch.Tensor = torch.linalg.eigh(vectors.T @ vectors)[1]
    return directions.flip(1)


def _stored(name: str, weight: torch.Tensor) -> Any:
    """Large products in half precision."""
    half = name in ("queries", "values", "hidden", "out")
    return weight.numpy().astype(np.float16 if half else np.float32)


def _card(recipe: Recipe, parts: Parts, figures: Mapping[str, float]) -> str:
    measured = "\n".join(f"| {name} | {value:.3f} |" for name, value in sorted(figures.items()))
    spec, shares = parts.text, parts.shares
    return f"""# {recipe.name}

Embeds text, multi-channel time series, or both, into {parts.layout.dimensions} dimensions of unit length.

- **Text**: `{spec.source}` (sha256 `{spec.sha256}`),
  {spec.pooling}-pooled, {spec.max_tokens} tokens; the packaged weights are all-MiniLM-L6-v2, Apache-2.0. A text
  that describes a signal is also read by a small trained head on states of layer {recipe.layer}, and its vector
  turned by up to {recipe.angle} rad towards what it says; other text keeps the encoder's own vector.
- **Signals**: fixed random-convolution features (MiniRocket's kernels, arXiv 2012.08791, pooled as in MiniRocket,
  MultiRocket and Hydra), whitened against what altering a series changes, with level and spread on several scales
  laid over them; channels bound by index; and a trained head that puts a signal near what is said of it.
- **Layout**: shared and own chunks {list(parts.layout.pattern)}; squared lengths of a signal's parts: shape
  {shares.shape:.2f}, description {shares.description}, level {shares.level}, meaning {shares.meaning}.

## Data

Generated from seed {recipe.seed}: {recipe.corpus} unlabelled series in {recipe.views} versions, {recipe.pairs}
series with captions, {recipe.outlines} short curves with measured captions, {recipe.phrases} bare phrases,
{recipe.prose} sentences that describe nothing. No recorded data set, UCR and UEA included, was read: the record of
training items (training.safetensors) is empty.

## Measured while training

Retrieval among {_TEST_PAIRS} generated pairs whose sentences and attribute combinations were not trained on, by
the description heads alone:

| figure | value |
|---|---|
{measured}

Made by `lakebed train --seed {recipe.seed}`; the whole recipe is in config.json. Other figures: `lakebed eval`.

## Limits

Text beyond {spec.max_tokens} tokens is cut, and reported. English text. Descriptions are matched by general
shape, level and events; domain words ("arrhythmia") are only as good as the text weights. A series is resampled
to {LENGTH} samples per channel: detail finer than 1/{LENGTH} of its length is averaged away. Words find what they
were trained to say: an event of a single sample is found less well than one of several, and a rhythm by its pace
and wave rather than by "regular". Scores between a text and a signal are small, 0.2 at most: compare, do not
threshold.
"""
