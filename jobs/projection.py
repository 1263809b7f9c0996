"""Fitting the fixed half of the signal tower: thresholds, whitening, projection and the order of the detail part.

Everything comes from generated series (`platform/corpus.py`); no recorded data is read.
"""

from dataclasses import dataclass

import numpy as np
import torch

from lakebed.platform.config.recipe import SPARE_DIRECTIONS, Recipe
from lakebed.platform.corpus import altered, varied_series
from lakebed.platform.encoder import convolution
from lakebed.platform.encoder.prepared import VectorArray
from lakebed.platform.items import FloatArray


@dataclass(frozen=True, eq=False)
class Projection:
    """Thresholds of the kernels, mean feature (F,), and projection (F, width) to an isotropic basis."""

    biases: VectorArray
    mean: VectorArray
    matrix: VectorArray


def fit_projection(recipe: Recipe, width: int) -> Projection:
    """Fit thresholds and projection for `width` shape dimensions."""
    generator = np.random.default_rng([recipe.seed, 1])
    biases = convolution.fit_biases(
        convolution.as_channels(_walks_with_sines(recipe.bias_series, generator)), recipe.quantiles
    )
    views = view_features(recipe, biases, generator)
    whitening = within_class_whitening(views, recipe.shrinkage, recipe.power)
    flat = views.reshape(-1, views.shape[-1])
    mean = flat.mean(0)
    matrix = leading_directions(flat - mean, whitening, width, generator)
    return Projection(biases, mean, matrix)


def view_features(recipe: Recipe, biases: VectorArray, generator: np.random.Generator) -> VectorArray:
    """Features (views, corpus, F) of generated series and of their altered versions."""
    series = varied_series(recipe.corpus, convolution.LENGTH, generator)
    views = [series, *(altered(series, generator) for _ in range(recipe.views - 1))]
    threads = torch.get_num_threads()
    return np.stack([convolution.cpu_features(convolution.as_channels(view), biases, threads) for view in views])


def within_class_whitening(views: VectorArray, shrinkage: float, power: float) -> VectorArray:
    """A matrix (F, F) that weighs down what altering a series changes: (Sw + shrinkage tr(Sw)/F I) ** power.

    Sw is the covariance within the versions of one series, as in within-class covariance normalisation (Hatch,
    Kajarekar and Stolcke 2006), here with a softer exponent.
    """
    count, series, width = views.shape
    within = torch.from_numpy((views - views.mean(0)).reshape(-1, width))
    covariance = within.T @ within / (series * (count - 1))
    values, vectors = np.linalg.eigh(covariance.numpy())
    values = np.maximum(values, 0)
    scaled = (values + shrinkage * values.mean()) ** power
    return np.asarray((vectors * scaled) @ vectors.T, np.float32)


def leading_directions(
    features: VectorArray, whitening: VectorArray, width: int, generator: np.random.Generator
) -> VectorArray:
    """Projection (F, width): whitened, cut to the principal directions, then rotated at random.

    The rotation spreads variance evenly over dimensions, so that signs per channel keep channels apart; without it
    the leading components of different channels interfere.
    """
    whitened = torch.from_numpy(features) @ torch.from_numpy(whitening)
    torch.manual_seed(int(generator.integers(2**31)))
    _, _, directions = torch.svd_lowrank(whitened, q=min(width + SPARE_DIRECTIONS, *whitened.shape), niter=3)
    rotation, _ = np.linalg.qr(generator.standard_normal((width, width)))
    return np.asarray(whitening @ directions[:, :width].numpy() @ rotation.astype(np.float32), np.float32)


def principal_rotation(vectors: VectorArray) -> VectorArray:
    """Orthogonal (d, d) that puts the directions of most energy first, for truncation. Not centred."""
    _, directions = np.linalg.eigh((vectors.T @ vectors).astype(np.float64))
    return np.asarray(directions[:, ::-1], np.float32)


def _walks_with_sines(count: int, generator: np.random.Generator) -> FloatArray:
    length = convolution.LENGTH
    walks = np.cumsum(generator.standard_normal((count, length)), axis=1)
    walks = (walks - walks.mean(1, keepdims=True)) / walks.std(1, keepdims=True)
    frequency = 10 ** generator.uniform(0, 1.8, (count, 1))
    phase = generator.uniform(0, 1, (count, 1))
    sines = np.sin(2 * np.pi * (frequency * np.linspace(0, 1, length) + phase))
    return np.asarray(walks + generator.uniform(0, 1.5, (count, 1)) * sines)
