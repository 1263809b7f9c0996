"""Training the alignment head: a signal's shared vector is drawn near the text vector of its description.

Symmetric contrastive loss (CLIP, Radford et al. 2021, arXiv 2103.00020) with several positives: a series is a
positive of every caption in the batch whose stated attributes it has. Text vectors are frozen.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from lakebed.platform.config.recipe import Recipe
from lakebed.platform.encoder import convolution
from lakebed.platform.encoder.plan import Budget, length_sorted_batches
from lakebed.platform.encoder.prepared import Ragged, VectorArray
from lakebed.platform.encoder.signal_tower import LEVEL_CODES, head_forward, level_codes, prepare_channels
from lakebed.platform.encoder.text_tower import TextTower
from lakebed.platform.synthesis import Captioned

Head = dict[str, torch.Tensor]

_ATTRIBUTES = ("trend", "cycle", "wave", "noise", "event", "where", "level", "spread", "channels")


@dataclass(frozen=True, eq=False)
class Pairs:
    """n pairs as numbers: pooled features (n, F), pooled level codes (n, L), text vectors (n, s), attributes.

    `values` (n, a) numbers each attribute's value; `stated` (n, a) says which of them the caption mentions.
    """

    features: torch.Tensor
    levels: torch.Tensor
    texts: torch.Tensor
    values: torch.Tensor
    stated: torch.Tensor

    def __len__(self) -> int:
        return len(self.features)


def pairs_of(captioned: Sequence[Captioned], tower: TextTower, biases: VectorArray, mean: VectorArray) -> Pairs:
    """Compute what the head is trained on, once."""
    channels, levels = prepare_channels([pair.series for pair in captioned])
    features = convolution.cpu_features(channels.values, biases, torch.get_num_threads()) - mean
    codes = level_codes(levels.values)
    starts, counts = channels.offsets[:-1], channels.lengths[:, None]
    return Pairs(
        torch.from_numpy(np.add.reduceat(features, starts) / counts).float(),
        torch.from_numpy(np.add.reduceat(codes, starts) / counts).float(),
        torch.from_numpy(embed_texts([pair.caption for pair in captioned], tower)),
        torch.from_numpy(_numbered(captioned)),
        torch.tensor([[name in pair.stated for name in _ATTRIBUTES] for pair in captioned]),
    )


def embed_texts(texts: Sequence[str], tower: TextTower) -> VectorArray:
    """Text vectors (n, s) in order."""
    rows, _ = tower.tokenize(texts)
    tokens = Ragged.of(rows, np.int64)
    vectors = np.empty((len(texts), tower.dimensions), np.float32)
    for batch in length_sorted_batches(tokens.lengths, Budget()):
        vectors[batch] = tower.forward(tokens.take(batch)).cpu().numpy()
    return vectors


def positives(values: torch.Tensor, stated: torch.Tensor) -> torch.Tensor:
    """(captions, series): true where the series has every attribute that the caption states."""
    agrees = (values[:, None, :] == values[None, :, :]) | ~stated[:, None, :]
    return agrees.all(-1)


def train_head(pairs: Pairs, recipe: Recipe, report: Callable[[int, float], None]) -> Head:
    """Train the head; `report(epoch, loss)` is called after each epoch."""
    torch.manual_seed(recipe.seed)
    head = _fresh_head(pairs.features.shape[1], recipe.hidden, pairs.texts.shape[1])
    temperature = torch.tensor(np.log(1 / 0.07), requires_grad=True)
    steps = recipe.epochs * (len(pairs) // recipe.batch)
    optimiser = torch.optim.AdamW([*head.values(), temperature], lr=recipe.learning_rate, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, recipe.learning_rate, total_steps=steps)
    for epoch in range(recipe.epochs):
        total = 0.0
        for batch in torch.randperm(len(pairs)).split(recipe.batch):
            if len(batch) < recipe.batch:
                continue
            loss = _loss(pairs, batch, head, temperature)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            total += loss.item() * recipe.batch / len(pairs)
        report(epoch + 1, total)
    return {name: weight.detach() for name, weight in head.items()}


def embed_signals(pairs: Pairs, head: Head) -> torch.Tensor:
    """Shared vectors (n, s) of the pairs' signals, of unit length."""
    vectors = head_forward(pairs.features @ head["head_features"], pairs.levels, head)
    return functional.normalize(vectors, dim=1)


def recall(texts: torch.Tensor, signals: torch.Tensor, ranks: Sequence[int]) -> dict[str, float]:
    """Share of texts whose own signal is among the first k, and the reverse, for each k of `ranks`."""
    similarity = texts @ signals.T
    figures: dict[str, float] = {}
    for name, scores in (("text_to_signal", similarity), ("signal_to_text", similarity.T)):
        place = (scores > scores.diagonal()[:, None]).sum(1)
        figures |= {f"{name}_r{k}": float((place < k).float().mean()) for k in ranks}
    return figures


def _loss(pairs: Pairs, batch: torch.Tensor, head: Head, temperature: torch.Tensor) -> torch.Tensor:
    features = functional.dropout(pairs.features[batch], 0.1)
    vectors = head_forward(features @ head["head_features"], pairs.levels[batch], head)
    logits = temperature.exp().clamp(max=100) * pairs.texts[batch] @ functional.normalize(vectors, dim=1).T
    targets = positives(pairs.values[batch], pairs.stated[batch]).float()
    by_text = functional.cross_entropy(logits, targets / targets.sum(1, keepdim=True))
    by_signal = functional.cross_entropy(logits.T, targets.T / targets.T.sum(1, keepdim=True))
    return (by_text + by_signal) / 2


def _fresh_head(features: int, hidden: int, out: int) -> Head:
    def uniform(rows: int, columns: int, gain: float) -> torch.Tensor:
        return torch.empty(rows, columns).uniform_(-1, 1) * (gain / math.sqrt(rows))

    head = {
        "head_features": uniform(features, hidden, 8.0),  # features lie within a few hundredths of their mean
        "head_levels": uniform(LEVEL_CODES, hidden, 1.0),
        "head_bias": torch.zeros(hidden),
        "head_scale": torch.ones(hidden),
        "head_shift": torch.zeros(hidden),
        "head_out": uniform(hidden, out, 1.0),
    }
    return {name: weight.requires_grad_() for name, weight in head.items()}


def _numbered(captioned: Sequence[Captioned]) -> npt.NDArray[np.int64]:
    """Attribute values as numbers, equal exactly when the words are."""
    columns = [
        np.unique([pair.attributes[name] for pair in captioned], return_inverse=True)[1] for name in _ATTRIBUTES
    ]
    return np.stack(columns, axis=1).astype(np.int64)
