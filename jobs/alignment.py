"""Training the two heads that meet: what a signal is like, and what a text says of one.

Symmetric contrastive loss (CLIP, Radford et al. 2021, arXiv 2103.00020) with several positives: a series is a
positive of every caption in the batch whose stated attributes it has. The text encoder is frozen; one head reads
its token states, the other the signal features. Captions of one family, which share their attributes, are
contrasted with each other only.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from lakebed.jobs.projection import Projection
from lakebed.platform.config.recipe import Recipe
from lakebed.platform.encoder import convolution, description, signal_tower
from lakebed.platform.encoder.plan import Budget, length_sorted_batches
from lakebed.platform.encoder.prepared import IntArray, Ragged, VectorArray, offsets_of
from lakebed.platform.encoder.signal_tower import LEVEL_CODES, OUTLINE, head_forward, level_codes, prepare_channels
from lakebed.platform.encoder.text_tower import TextTower
from lakebed.platform.synthesis import Captioned

Head = dict[str, torch.Tensor]
Report = Callable[[int, float], None]

_TOKEN_DROPOUT = 0.1
_FEATURE_DROPOUT = 0.25


@dataclass(frozen=True, eq=False)
class Texts:
    """n texts as the frozen encoder sees them: plain vectors (n, s) and a layer's states, row after row."""

    plain: torch.Tensor
    states: torch.Tensor
    offsets: IntArray

    def __len__(self) -> int:
        return len(self.plain)

    def take(self, rows: IntArray) -> tuple[torch.Tensor, torch.Tensor]:
        """The states of some texts, and which of these each state belongs to."""
        lengths = np.diff(self.offsets)[rows]
        starts = offsets_of(lengths)
        places = np.arange(starts[-1]) + np.repeat(self.offsets[rows] - starts[:-1], lengths)
        owner = np.repeat(np.arange(len(rows)), lengths)
        return self.states[torch.from_numpy(places)].float(), torch.from_numpy(owner)


@dataclass(frozen=True, eq=False)
class Pairs:
    """n pairs as numbers: pooled features (n, F), outlines (n, OUTLINE), level codes (n, L), texts, attributes.

    Features are centred and scaled. `values` (n, a) numbers each attribute's value; `stated` (n, a) says which of
    them the caption mentions.
    """

    features: torch.Tensor
    outlines: torch.Tensor
    levels: torch.Tensor
    texts: Texts
    values: torch.Tensor
    stated: torch.Tensor

    def __len__(self) -> int:
        return len(self.features)


def pairs_of(captioned: Sequence[Captioned], tower: TextTower, layer: int, projection: Projection) -> Pairs:
    """Compute what the heads are trained on, once."""
    channels, levels = prepare_channels([pair.series for pair in captioned])
    starts, counts = channels.offsets[:-1], channels.lengths[:, None]

    def pooled(rows: VectorArray) -> torch.Tensor:
        return torch.from_numpy(np.asarray(np.add.reduceat(rows, starts) / counts, np.float32))

    features = convolution.cpu_features(channels.values, projection.biases, torch.get_num_threads())
    scaled = (pooled(features) - torch.from_numpy(projection.mean)) * torch.from_numpy(projection.scale)
    names = list(captioned[0].attributes)
    return Pairs(
        scaled.half(),
        pooled(signal_tower.outline(torch.from_numpy(channels.values)).numpy()),
        pooled(level_codes(levels.values)),
        texts_of([pair.caption for pair in captioned], tower, layer),
        torch.from_numpy(_numbered(captioned, names)),
        torch.tensor([[name in pair.stated for name in names] for pair in captioned]),
    )


def texts_of(texts: Sequence[str], tower: TextTower, layer: int) -> Texts:
    """Run the frozen encoder; states are kept in bfloat16."""
    rows, _ = tower.tokenize(texts)
    tokens = Ragged.of(rows, np.int64)
    plain = torch.empty((len(texts), tower.dimensions))
    states = torch.empty((len(tokens.values), tower.dimensions), dtype=torch.bfloat16)
    for batch in length_sorted_batches(tokens.lengths, Budget()):
        vectors, between, _ = tower.forward_with_states(tokens.take(batch), layer)
        plain[batch] = vectors.cpu()
        lengths = tokens.lengths[batch]
        starts = np.repeat(tokens.offsets[batch] - offsets_of(lengths)[:-1], lengths)
        states[torch.from_numpy(np.arange(lengths.sum()) + starts)] = between.cpu().bfloat16()
    return Texts(plain, states, tokens.offsets)


def positives(values: torch.Tensor, stated: torch.Tensor) -> torch.Tensor:
    """(captions, series): true where the series has every attribute that the caption states."""
    agrees = (values[:, None, :] == values[None, :, :]) | ~stated[:, None, :]
    return agrees.all(-1)


def train_heads(families: Sequence[Pairs], recipe: Recipe, report: Report) -> tuple[Head, Head]:
    """Train the text head and the signal head; `report(epoch, loss)` is called after each epoch."""
    torch.manual_seed(recipe.seed)
    text = _fresh_text_head(recipe, families[0].texts.states.shape[1])
    signal = _fresh_signal_head(recipe, families[0].features.shape[1])
    temperature = torch.tensor(np.log(1 / 0.07), dtype=torch.float32, requires_grad=True)
    steps = recipe.epochs * sum(len(family) // recipe.batch for family in families)
    parameters = [*text.values(), *signal.values(), temperature]
    optimiser = torch.optim.AdamW(parameters, lr=recipe.learning_rate, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, recipe.learning_rate, total_steps=steps)
    for epoch in range(recipe.epochs):
        losses = []
        for pairs, batch in _batches(families, recipe.batch):
            loss = _loss(pairs, batch, text, signal, temperature)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            losses.append(loss.item())
        report(epoch + 1, float(np.mean(losses)))
    return _detached(text), _detached(signal)


def _batches(families: Sequence[Pairs], size: int) -> Iterator[tuple[Pairs, torch.Tensor]]:
    whole = [
        (pairs, batch)
        for pairs in families
        for batch in torch.randperm(len(pairs)).split(size)
        if len(batch) == size
    ]
    return iter(whole[place] for place in torch.randperm(len(whole)))


def _loss(pairs: Pairs, batch: torch.Tensor, text: Head, signal: Head, temperature: torch.Tensor) -> torch.Tensor:
    states, owner = pairs.texts.take(batch.numpy())
    kept = torch.rand(len(owner)) >= _TOKEN_DROPOUT
    pooled = description.attend(states[kept], owner[kept], len(batch), text)
    said = functional.normalize(description.hidden(functional.dropout(pooled, 0.1), text) @ text["out"], dim=1)
    features = functional.dropout(pairs.features[batch].float(), _FEATURE_DROPOUT)
    rows = head_forward(features @ signal["head_features"], pairs.outlines[batch], pairs.levels[batch], signal)
    logits = temperature.exp().clamp(max=100) * said @ functional.normalize(rows, dim=1).T
    targets = positives(pairs.values[batch], pairs.stated[batch]).float()
    by_text = functional.cross_entropy(logits, targets / targets.sum(1, keepdim=True))
    by_signal = functional.cross_entropy(logits.T, targets.T / targets.T.sum(1, keepdim=True))
    return (by_text + by_signal) / 2


def found_in(texts: Texts, head: Head) -> torch.Tensor:
    """What the text head finds in texts (n, hidden), before its last product."""
    parts = []
    for rows in np.array_split(np.arange(len(texts)), max(1, len(texts) // 1000)):
        states, owner = texts.take(rows)
        parts.append(description.hidden(description.attend(states, owner, len(rows), head), head))
    return torch.cat(parts)


def described_by(texts: Texts, head: Head) -> torch.Tensor:
    """Description vectors (n, d) of texts, of unit length."""
    return functional.normalize(found_in(texts, head) @ head["out"], dim=1)


def described(pairs: Pairs, head: Head) -> torch.Tensor:
    """Description vectors (n, d) of the pairs' signals, of unit length."""
    features = torch.cat([part.float() @ head["head_features"] for part in pairs.features.split(1000)])
    return functional.normalize(head_forward(features, pairs.outlines, pairs.levels, head), dim=1)


def evidence_of(texts: Texts, head: Head) -> torch.Tensor:
    """What the gate judges texts by (n, hidden + s)."""
    return description.evidence(found_in(texts, head), texts.plain)


def fit_gate(descriptions: Sequence[torch.Tensor], others: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights (e,) and bias () that give evidence (n, e) of texts a sureness from 0 to 1.

    A logistic regression, stretched: in each family of `descriptions` all but a fiftieth get 1 or more; 0 or less
    get all but a thousandth of `others`, and whatever lies closer to these than to descriptions, for other text is
    more varied than `others` are.
    """
    rows = torch.cat([*descriptions, others])
    count = sum(map(len, descriptions))
    truth = torch.cat([torch.ones(count), torch.zeros(len(others))])
    weight, bias = torch.zeros(rows.shape[1], requires_grad=True), torch.zeros((), requires_grad=True)
    optimiser = torch.optim.LBFGS([weight, bias], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        loss = functional.binary_cross_entropy_with_logits(rows @ weight + bias, truth)
        loss = loss + 1e-3 * weight.square().sum()
        loss.backward()
        return loss

    optimiser.step(closure)
    with torch.no_grad():
        low = torch.quantile(others @ weight, 0.999)
        surest = torch.stack([torch.quantile(family @ weight, 0.02) for family in descriptions])
        high = torch.maximum(surest.min(), low + 1)
        low = (low + high) / 2
        return (weight / (high - low)).detach(), (-low / (high - low)).detach()


def fit_meaning(said: torch.Tensor, plain: torch.Tensor, rank: int) -> tuple[VectorArray, VectorArray]:
    """Map (d, s), of rank `rank`, from descriptions (n, d) to centred plain text vectors (n, s); and its image.

    The image is `rank` orthonormal rows (rank, s): the directions of most energy of the plain vectors, not
    centred, so that little of a description's plain vector lies outside it.
    """
    centred = (plain - plain.mean(0)).double()
    _, _, directions = torch.linalg.svd(plain.double().T @ plain.double())
    image = directions[:rank]
    solved = torch.linalg.lstsq(said.double(), centred).solution
    return np.asarray((solved @ image.T @ image).numpy(), np.float32), np.asarray(image.numpy(), np.float32)


def recall(texts: torch.Tensor, signals: torch.Tensor, ranks: Sequence[int]) -> dict[str, float]:
    """Share of texts whose own signal is among the first k, and the reverse, for each k of `ranks`."""
    similarity = texts @ signals.T
    figures: dict[str, float] = {}
    for name, scores in (("text_to_signal", similarity), ("signal_to_text", similarity.T)):
        place = (scores > scores.diagonal()[:, None]).sum(1)
        figures |= {f"{name}_r{k}": float((place < k).float().mean()) for k in ranks}
    return figures


def _uniform(rows: int, columns: int, gain: float = 1.0) -> torch.Tensor:
    return torch.empty(rows, columns).uniform_(-1, 1) * (gain / math.sqrt(rows))


def _fresh_text_head(recipe: Recipe, states: int) -> Head:
    pooled, hidden = recipe.heads * recipe.head_width, recipe.hidden
    head = {
        "queries": _uniform(states, recipe.heads),
        "values": _uniform(states, pooled),
        "norm_scale": torch.ones(pooled),
        "norm_shift": torch.zeros(pooled),
        "hidden": _uniform(pooled, hidden),
        "hidden_bias": torch.zeros(hidden),
        "hidden_scale": torch.ones(hidden),
        "hidden_shift": torch.zeros(hidden),
        "out": _uniform(hidden, recipe.described),
    }
    return {name: weight.requires_grad_() for name, weight in head.items()}


def _fresh_signal_head(recipe: Recipe, features: int) -> Head:
    hidden = recipe.hidden
    head = {
        "head_features": _uniform(features, hidden, 8.0),  # features lie within a few hundredths of their mean
        "head_outline": _uniform(OUTLINE, hidden),
        "head_levels": _uniform(LEVEL_CODES, hidden),
        "head_bias": torch.zeros(hidden),
        "head_scale": torch.ones(hidden),
        "head_shift": torch.zeros(hidden),
        "head_hidden": _uniform(hidden, hidden),
        "head_hidden_bias": torch.zeros(hidden),
        "head_scale2": torch.ones(hidden),
        "head_shift2": torch.zeros(hidden),
        "head_out": _uniform(hidden, recipe.described),
    }
    return {name: weight.requires_grad_() for name, weight in head.items()}


def _detached(head: Head) -> Head:
    return {name: weight.detach() for name, weight in head.items()}


def _numbered(captioned: Sequence[Captioned], names: Sequence[str]) -> npt.NDArray[np.int64]:
    """Attribute values as numbers, equal exactly when the words are."""
    columns = [np.unique([pair.attributes[name] for pair in captioned], return_inverse=True)[1] for name in names]
    return np.stack(columns, axis=1).astype(np.int64)
