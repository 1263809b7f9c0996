"""The same item gives the same vector: alone or in any batch, in any order, process, precision and place."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lakebed import Encoder
from lakebed.platform.encoder import convolution
from lakebed.platform.encoder.load import resolve_model
from lakebed.platform.encoder.multimodal import MultiModalEncoder
from lakebed.platform.encoder.plan import Budget, Window
from lakebed.platform.encoder.protocol import encode, encode_windows, joined
from lakebed.platform.encoder.signal_tower import SignalTower
from lakebed.platform.encoder.text_tower import TextTower
from lakebed.platform.items import Item, items_of
from lakebed.platform.synthesis import captioned_series

EXACT, HALF = 0.9999, 0.9995
"""Least cosine in the same precision, and between float32 and bfloat16."""

PAIRS = captioned_series(12, seed=11, split="test")
WORDS = ["pump", "valve", "rises", "a", "sharp", "peak,", "nothing.", "Überdruck", "漢字", "🙂", "1e-3"]

texts = st.one_of(
    st.builds(
        str.__add__,
        st.text(st.characters(exclude_categories=["Cs"]), max_size=80),
        st.characters(categories=["L", "N", "P", "S"]),  # at least one that shows something
    ),
    st.lists(st.sampled_from(WORDS), min_size=1, max_size=400).map(" ".join),
)
series = hnp.arrays(
    np.float64,
    st.tuples(st.integers(1, 6), st.integers(1, 1500)),
    elements=st.floats(-1e6, 1e6, width=32),
    fill=st.floats(-10, 10),
)
items = st.one_of(
    texts.map(Item.of), series.map(lambda values: Item.of(series=values)), st.builds(Item.of, texts, series)
)

few = settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))


def _mixed() -> list[Item]:
    """Texts of all lengths, real-looking signals of one to four channels, and both."""
    both = [{"text": pair.caption, "time_series": pair.series} for pair in PAIRS[:4]]
    lengths = ["pump " * 2**power for power in range(9)]
    return items_of([*lengths, *(pair.caption for pair in PAIRS), *(pair.series for pair in PAIRS), *both])


MIXED = _mixed()


def _cosines(first, second):
    product = (first.astype(np.float64) * second).sum(1)
    return product / np.linalg.norm(first, axis=1) / np.linalg.norm(second, axis=1)


def _alone(encoder, items):
    return np.concatenate([encode(encoder, [item]).vectors for item in items])


@few
@given(drawn=st.lists(items, min_size=1, max_size=6), data=st.data())
def test_what_is_around_an_item_does_not_matter(encoder, drawn, data):
    order = data.draw(st.permutations(range(len(drawn))))
    budget = Budget(rows=data.draw(st.integers(1, 8)), cost=data.draw(st.sampled_from([1, 300, 5000])))
    window = Window(rows=data.draw(st.integers(1, 4)))
    parts = encode_windows(encoder, [drawn[place] for place in order], budget=budget, window=window)
    together = joined(parts, encoder.info).vectors
    assert _cosines(together, _alone(encoder, drawn)[list(order)]).min() >= EXACT


@pytest.fixture(scope="module")
def alone(encoder):
    """Vectors of MIXED, each item embedded alone."""
    return _alone(encoder, MIXED)


def test_padding_does_not_leak(encoder, alone):
    together = encode(encoder, MIXED, budget=Budget(cost=10**9, rows=10**6)).vectors
    assert _cosines(together, alone).min() >= EXACT


@pytest.mark.parametrize("dimensions", [512, 64, 2])
def test_truncated_vectors_are_the_same_in_any_batch(encoder, alone, dimensions):
    together = encode(encoder, MIXED, dimensions).vectors
    assert _cosines(together, encoder.finish(alone, dimensions)).min() >= EXACT


def test_how_numbers_are_stored_does_not_matter(encoder):
    values = np.float32(PAIRS[0].series)
    forms = [
        values,
        values.astype(np.float64),
        np.asfortranarray(values),
        values.tolist(),
        torch.from_numpy(values),
    ]
    vectors = Encoder(encoder).encode(forms)
    assert _cosines(vectors, vectors[:1]).min() >= EXACT


_OTHER_PROCESS = """
import json, sys
import numpy as np, torch
torch.set_num_threads(1)
from lakebed import Encoder
values = json.load(sys.stdin)
sys.stdout.buffer.write(Encoder.load("lakebed-embed", device="cpu").encode_with_counts(values).vectors.tobytes())
"""


def test_another_process_with_other_threads_gives_the_same_vectors(encoder):
    values = [
        {"text": item.text, "time_series": None if item.series is None else item.series.tolist()} for item in MIXED
    ]
    done = subprocess.run(
        [sys.executable, "-c", _OTHER_PROCESS], input=json.dumps(values).encode(), capture_output=True, check=True
    )
    vectors = np.frombuffer(done.stdout, np.float32).reshape(len(MIXED), -1)
    assert _cosines(vectors, encode(encoder, MIXED).vectors).min() >= EXACT


def _with_text_in(encoder, dtype):
    tower = TextTower(encoder.text.spec, encoder.device, dtype)
    return MultiModalEncoder(encoder.info, tower, encoder.description, encoder.signal, encoder.layout)


@pytest.fixture(scope="module")
def precise(encoder):
    """The packaged model in float32."""
    return _with_text_in(encoder, torch.float32)


@pytest.fixture(scope="module")
def halved(encoder):
    """The packaged model in bfloat16, which every CPU can compute, if slowly."""
    return _with_text_in(encoder, torch.bfloat16)


def test_bfloat16_gives_nearly_the_vectors_of_float32(precise, halved):
    assert _cosines(encode(halved, MIXED).vectors, encode(precise, MIXED).vectors).min() >= HALF


@few
@given(drawn=st.lists(items, min_size=1, max_size=4))
def test_bfloat16_is_near_float32_for_any_item(precise, halved, drawn):
    assert _cosines(encode(halved, drawn).vectors, encode(precise, drawn).vectors).min() >= HALF


@few
@given(drawn=st.lists(items, min_size=2, max_size=5))
def test_bfloat16_does_not_depend_on_the_batch(halved, drawn):
    assert _cosines(encode(halved, drawn).vectors, _alone(halved, drawn)).min() >= EXACT


class _DeviceFormulation(SignalTower):
    """The signal tower on the CPU with the matrix products that a GPU gets."""

    def _features(self, channels):
        return convolution.device_features(channels, self._biases)


@few
@given(drawn=st.lists(series.map(lambda values: Item.of(series=values)), min_size=1, max_size=4))
def test_both_formulations_of_the_signal_features_give_the_same_vector(encoder, drawn):
    tower = _DeviceFormulation(encoder.signal.weights, encoder.signal.shares, encoder.device)
    other = MultiModalEncoder(encoder.info, encoder.text, encoder.description, tower, encoder.layout)
    assert _cosines(encode(other, drawn).vectors, encode(encoder, drawn).vectors).min() >= EXACT


@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no GPU")
def test_a_gpu_gives_the_vectors_of_the_cpu(precise):
    gpu = resolve_model("lakebed-embed").load("cuda")
    expected = encode(precise, MIXED).vectors
    assert _cosines(encode(gpu, MIXED).vectors, expected).min() >= HALF
    assert _cosines(encode(_with_text_in(gpu, torch.float32), MIXED).vectors, expected).min() >= EXACT
    assert _cosines(_alone(gpu, MIXED), encode(gpu, MIXED).vectors).min() >= EXACT
