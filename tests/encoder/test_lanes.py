"""Forwards beside each other: one core each, and the vectors that one after the other gives."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from lakebed.platform.encoder.fake import FakeEncoder
from lakebed.platform.encoder.lanes import lanes
from lakebed.platform.encoder.load import resolve_model
from lakebed.platform.encoder.plan import Budget
from lakebed.platform.encoder.protocol import ConcurrentEncoder, encode, forward_in_batches, lanes_of
from lakebed.platform.items import items_of

TEXTS = [f"pump {number} " + "rattles at night " * (number % 7) for number in range(60)]


def test_a_lane_has_one_core_and_other_threads_keep_theirs():
    before = torch.get_num_threads()
    lane = lanes(2)
    product = torch.ones(64, 64)
    for _ in range(4):
        lane.submit(torch.mm, product, product).result()
        assert lane.submit(torch.get_num_threads).result() == 1
    assert torch.get_num_threads() == before
    with ThreadPoolExecutor(1) as other:
        assert other.submit(torch.get_num_threads).result() == before


def test_only_an_encoder_that_says_so_has_lanes():
    assert lanes_of(FakeEncoder(8)) == 1
    assert not isinstance(FakeEncoder(8), ConcurrentEncoder)


def test_forwards_beside_each_other_give_what_one_after_the_other_gives(monkeypatch):
    encoder = resolve_model("lakebed-embed").load("cpu")
    items = items_of([*TEXTS, *np.random.default_rng(0).standard_normal((20, 3, 100))])
    monkeypatch.setattr(encoder, "_lanes", 1)
    alone = encode(encoder, items, budget=Budget(256)).vectors
    monkeypatch.setattr(encoder, "_lanes", 3)
    beside = encode(encoder, items, budget=Budget(256)).vectors
    assert (alone * beside).sum(1).min() >= 0.9999


def test_progress_is_told_for_every_item():
    encoder, told = resolve_model("lakebed-embed").load("cpu"), []
    work = encoder.prepare(items_of(TEXTS))

    forward_in_batches(encoder, work, Budget(128), told.append)
    assert sum(told) == len(TEXTS)
