"""The example of a user's own encoder is one."""

from pathlib import Path

import numpy as np

from lakebed.platform.encoder.load import resolve_model
from lakebed.platform.encoder.protocol import Encoder, encode
from lakebed.platform.items import items_of


def test_the_example_encoder_works_by_import_path(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2]))
    encoder = resolve_model("examples.encoder_of_your_own:LetterCounts").load()
    assert isinstance(encoder, Encoder)
    vectors = encode(encoder, items_of(["abc", "cab", "xyz"]), dimensions=24).vectors
    assert vectors.shape == (3, 24)
    assert np.isclose(vectors[0] @ vectors[1], 1)
    assert vectors[0] @ vectors[2] < 0.1
