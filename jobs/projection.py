"""Fitting the fixed half of the signal tower: thresholds, whitening, projection and rotation.

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
    """What is fitted on series alone.

    Thresholds of the kernels; mean feature (F,); scale (F,) that brings features to comparable spread; matrix
    (F, width) from centred features, unscaled, to an isotropic basis.
    """

    biases: VectorArray
    mean: VectorArray
    scale: VectorArray
    matrix: VectorArray


def fit_projection(recipe: Recipe, width: int) -> Projection:
    """Fit thresholds and projection for `width` shape dimensions."""
    generator = np.random.default_rng([recipe.seed, 1])
    walks = _walks_with_sines(recipe.bias_series // 2, generator)
    others = varied_series(recipe.bias_series - len(walks), convolution.LENGTH, generator)
    biases = convolution.fit_biases(convolution.as_channels(np.concatenate([walks, others])), recipe.quantiles)
    views = view_features(recipe, biases, generator)
    flat = views.reshape(-1, views.shape[-1])
    mean, scale = flat.mean(0), _scale(flat, len(recipe.quantiles))
    basis = principal_directions(torch.from_numpy((flat - mean) * scale), recipe.reduced, generator)
    reduced = (((views - mean) * scale).reshape(flat.shape) @ basis).reshape(*views.shape[:2], -1)
    whitening = within_class_whitening(reduced, recipe.shrinkage, recipe.power, flat.shape[1])
    directions = leading_directions(reduced.reshape(len(flat), -1), whitening, width, generator)
    # The rotation spreads variance evenly over dimensions: signs per channel then keep channels apart, where
    # leading components of different channels would interfere, and a probe that standardises each dimension does
    # not undo the whitening's exponent.
    rotated = directions @ random_rotation(width, np.random.default_rng([recipe.seed, 6, recipe.rotation]))
    return Projection(biases, mean, scale, np.asarray(scale[:, None] * (basis @ rotated), np.float32))


def view_features(recipe: Recipe, biases: VectorArray, generator: np.random.Generator) -> VectorArray:
    """Features (views, corpus, F) of generated series and of their altered versions."""
    series = varied_series(recipe.corpus, convolution.LENGTH, generator)
    views = [series, *(altered(series, generator) for _ in range(recipe.views - 1))]
    threads = torch.get_num_threads()
    return np.stack([convolution.cpu_features(convolution.as_channels(view), biases, threads) for view in views])


def _scale(features: VectorArray, quantiles: int) -> VectorArray:
    """1 for proportions; the other features, which differ in size, are brought to a proportion's spread."""
    proportion = convolution.is_proportion(quantiles)
    spread = features.std(0)
    usual = np.median(spread[proportion])
    return np.where(proportion, 1, usual / np.maximum(spread, usual * 1e-3)).astype(np.float32)


def principal_directions(rows: torch.Tensor, count: int, generator: np.random.Generator) -> VectorArray:
    """The `count` leading right singular vectors of centred rows (n, F), as columns (F, count)."""
    torch.manual_seed(int(generator.integers(2**31)))
    _, _, directions = torch.svd_lowrank(rows, q=min(count, *rows.shape), niter=2)
    return np.asarray(directions.numpy(), np.float32)


def within_class_whitening(views: VectorArray, shrinkage: float, power: float, dimensions: int) -> VectorArray:
    """A matrix (w, w) that weighs down what altering a series changes: (Sw + shrinkage tr(Sw)/D I) ** power.

    Sw is the covariance of views (versions, series, w) within the versions of one series, as in within-class
    covariance normalisation (Hatch, Kajarekar and Stolcke 2006), here with a softer exponent. D, `dimensions`, is
    that of the space that the w directions were taken from.
    """
    count, series, width = views.shape
    within = torch.from_numpy((views - views.mean(0)).reshape(-1, width))
    covariance = within.T @ within / (series * (count - 1))
    values, vectors = np.linalg.eigh(covariance.numpy())
    values = np.maximum(values, 0)
    scaled = (values + shrinkage * values.sum() / dimensions) ** power
    return np.asarray((vectors * scaled) @ vectors.T, np.float32)


def leading_directions(
    features: VectorArray, whitening: VectorArray, width: int, generator: np.random.Generator
) -> VectorArray:
    """Projection (w, width): whitened, then cut to the directions of most energy."""
    whitened = torch.from_numpy(features) @ torch.from_numpy(whitening)
    return whitening @ principal_directions(whitened, width + SPARE_DIRECTIONS, generator)[:, :width]


def random_rotation(width: int, generator: np.random.Generator) -> VectorArray:
    """A random orthogonal matrix (width, width)."""
    rotation, _ = np.linalg.qr(generator.standard_normal((width, width)))
    return np.asarray(rotation, np.float32)


def _walks_with_sines(count: int, generator: np.random.Generator) -> FloatArray:
    length = convolution.LENGTH
    walks = np.cumsum(generator.standard_normal((count, length)), axis=1)
    walks = (walks - walks.mean(1, keepdims=True)) / walks.std(1, keepdims=True)
    frequency = 10 ** generator.uniform(0, 1.8, (count, 1))
    phase = generator.uniform(0, 1, (count, 1))
    sines = np.sin(2 * np.pi * (frequency * np.linspace(0, 1, length) + phase))
    return np.asarray(walks + generator.uniform(0, 1.5, (count, 1)) * sines)
