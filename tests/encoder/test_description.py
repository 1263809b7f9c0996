"""The description head: attention over a text's own tokens, and a gate that leaves other text alone."""

import numpy as np
import pytest
import torch

from lakebed.platform.encoder import description
from lakebed.platform.encoder.protocol import encode
from lakebed.platform.items import items_of

GENERATOR = torch.Generator().manual_seed(0)
WEIGHTS = {
    "queries": torch.randn(6, 2, generator=GENERATOR),
    "values": torch.randn(6, 2 * 3, generator=GENERATOR),
}


def _attended_alone(states):
    weights = torch.softmax(states @ WEIGHTS["queries"], dim=0)
    values = (states @ WEIGHTS["values"]).unflatten(1, (2, 3))
    return torch.einsum("th,thv->hv", weights, values).flatten()


def test_each_text_attends_to_its_own_tokens_only():
    lengths = [3, 1, 5]
    states = torch.randn(9, 6, generator=GENERATOR)
    owner = torch.repeat_interleave(torch.arange(3), torch.tensor(lengths))
    together = description.attend(states, owner, 3, WEIGHTS)
    for row, part in enumerate(states.split(lengths)):
        assert torch.allclose(together[row], _attended_alone(part), atol=1e-6)


def test_large_scores_do_not_overflow():
    states = 1e4 * torch.randn(4, 6, generator=GENERATOR)
    assert description.attend(states, torch.zeros(4, dtype=torch.int64), 1, WEIGHTS).isfinite().all()


def test_sureness_is_linear_between_no_and_yes():
    gate = {"gate": torch.tensor([1.0]), "gate_bias": torch.tensor(0.25)}
    given = description.gate(torch.tensor([[-3.0], [0.25], [1.25], [2.25], [4.0]]), gate)
    assert description.sureness(given).tolist() == pytest.approx([0, 0, 0.5, 1, 1])


def test_the_gate_judges_by_topic_too():
    seen = description.evidence(torch.tensor([[1.0, 2.0]]), torch.tensor([[0.5, -0.5, 0.5, 0.5]]))
    assert seen.tolist() == [[1, 2, 1, -1, 1, 1]]


DESCRIPTIONS = [
    "a rising trend with a spike near the end",
    "very noisy, no cycles, a step down in the middle",
    "mean about 40 and a slow sine wave",
    "peaks in the middle",
    "a burst of vibration",
    "a sudden peak",
    "no noise",
    "Fast oscillation",
]
OTHERS = [
    "A man is playing a guitar.",
    "How do I reset my password?",
    "The cat sat on the mat.",
    "I lost my card yesterday.",
    "Paris is the capital of France.",
]


@pytest.mark.parametrize(("texts", "turned"), [(DESCRIPTIONS, True), (OTHERS, False)])
def test_descriptions_are_turned_and_other_text_is_not(encoder, texts, turned):
    vectors = encode(encoder, items_of(texts)).vectors
    own = np.concatenate(np.split(vectors, np.cumsum(encoder.layout.pattern)[:-1], axis=1)[1::2], axis=1)
    lengths = np.linalg.norm(own, axis=1)
    assert (lengths > 0.5).all() if turned else (lengths == 0).all()


def test_numbers_are_read(encoder):
    texts = ["mean about 40", "a mean near 40", "mean about 400"]
    first, same, other = encode(encoder, items_of(texts)).vectors
    assert first @ same > first @ other
