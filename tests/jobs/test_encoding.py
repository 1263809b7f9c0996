import pickle
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest

from lakebed.jobs.encoding import EmbeddedRows, PreparedRows, RowEmbedder
from lakebed.jobs.vector_cache import VectorCache
from lakebed.platform.encoder.fake import FakeEncoder
from lakebed.platform.encoder.plan import Budget
from lakebed.platform.encoder.prepared import Prepared, VectorArray
from lakebed.platform.encoder.protocol import Encoder, EncoderInfo, encode
from lakebed.platform.errors import InvalidItemError
from lakebed.platform.items import Item

ITEMS = [Item.of("word " * (1 + place % 7) + str(place)) for place in range(20)]


@dataclass
class Brittle:
    """A fake that fails on one text, in `prepare` or in `forward`, or returns a bad vector for it."""

    poison: str
    where: str
    fake: FakeEncoder = field(default_factory=FakeEncoder)
    poisoned: bytes = b""

    @property
    def info(self) -> EncoderInfo:
        return self.fake.info

    def prepare(self, items: Sequence[Item]) -> Prepared:
        if self.where == "prepare" and any(item.text == self.poison for item in items):
            raise ValueError("cannot tokenize")
        return self.fake.prepare(items)

    def forward(self, work: Prepared) -> VectorArray:
        key = bytes.fromhex(Item.of(self.poison).content_key())
        hit = [work.columns["key"].row(row).tobytes() == key for row in range(len(work))]
        if self.where == "forward" and any(hit):
            raise RuntimeError("device failed")
        vectors = self.fake.forward(work)
        if self.where == "vector":
            vectors[hit] = np.nan
        return vectors

    def finish(self, vectors: VectorArray, dimensions: int | None = None) -> VectorArray:
        return self.fake.finish(vectors, dimensions)


@dataclass
class Counting:
    """A fake that counts what it embeds, on `lanes` at once."""

    lanes: int = 1
    poison: str | None = None
    fake: FakeEncoder = field(default_factory=FakeEncoder)
    seen: list[int] = field(default_factory=list)
    threads: set[str] = field(default_factory=set)

    @property
    def info(self) -> EncoderInfo:
        return self.fake.info

    def prepare(self, items: Sequence[Item]) -> Prepared:
        return self.fake.prepare(items)

    def forward(self, work: Prepared) -> VectorArray:
        self.seen.append(len(work))
        self.threads.add(threading.current_thread().name)
        if self.poison and len(set(work.costs.tolist()) & {len(self.poison.split())}):
            raise RuntimeError("device failed")
        return self.fake.forward(work)

    def finish(self, vectors: VectorArray, dimensions: int | None = None) -> VectorArray:
        return self.fake.finish(vectors, dimensions)


def embedder(encoder: Encoder, dimensions: int = 32, cache: VectorCache | None = None) -> RowEmbedder:
    return RowEmbedder(encoder, dimensions, Budget(cost=24, rows=4), cache)


def test_vectors_are_those_of_the_encoder_alone() -> None:
    result = embedder(FakeEncoder(), 8)(ITEMS)
    assert np.allclose(result.vectors, encode(FakeEncoder(), ITEMS, 8).vectors)
    assert result.errors == {}


def test_tokens_are_counted_per_row() -> None:
    result = embedder(FakeEncoder())(ITEMS[:3])
    assert result.tokens.tolist() == [2, 3, 4]


@pytest.mark.parametrize(
    ("where", "code"), [("prepare", "encoder_error"), ("forward", "encoder_error"), ("vector", "bad_vector")]
)
def test_one_poisoned_row_costs_itself_and_no_other(where: str, code: str) -> None:
    result = embedder(Brittle(str(ITEMS[13].text), where))(ITEMS)
    assert {place: error.code for place, error in result.errors.items()} == {13: code}
    others = [place for place in range(20) if place != 13]
    expected = encode(FakeEncoder(), ITEMS).vectors
    assert np.allclose(result.vectors[others], expected[others])
    assert not result.vectors[13].any()


def test_the_reason_of_a_failing_row_is_kept() -> None:
    result = embedder(Brittle(str(ITEMS[3].text), "forward"))(ITEMS)
    assert result.errors[3].message == "the encoder raised RuntimeError: device failed"


def test_rows_that_were_bad_before_stay_so_and_the_rest_is_embedded() -> None:
    bad = InvalidItemError("text is empty", code="empty_text")
    result = embedder(FakeEncoder())([bad, ITEMS[0], bad])
    assert result.errors == {0: bad, 2: bad}
    assert np.allclose(result.vectors[1], encode(FakeEncoder(), ITEMS[:1]).vectors[0])


def test_a_batch_without_a_good_row_calls_no_encoder() -> None:
    bad = InvalidItemError("text is empty", code="empty_text")
    assert embedder(Brittle("x", "prepare"))([bad]).errors == {0: bad}
    assert len(embedder(FakeEncoder())([]).vectors) == 0


def assert_same(result: EmbeddedRows, items: Sequence[Item]) -> None:
    expected = encode(FakeEncoder(), items)
    assert np.allclose(result.vectors, expected.vectors)
    assert result.tokens.tolist() == expected.item_tokens.tolist()
    assert result.samples.tolist() == expected.item_samples.tolist()
    assert result.keys == [item.content_key() for item in items]


def test_equal_contents_are_embedded_once_and_every_row_has_its_vector_and_counts() -> None:
    items = [*ITEMS, *reversed(ITEMS), Item.of(None, [[1.0, 2.0]]), Item.of(None, np.float32([[1, 2]]))]
    counting = Counting()
    assert_same(embedder(counting)(items), items)
    assert sum(counting.seen) == len(ITEMS) + 1


def test_rows_of_equal_content_share_their_error_too() -> None:
    result = embedder(Brittle(str(ITEMS[3].text), "forward"))([*ITEMS, ITEMS[3]])
    assert {place: error.code for place, error in result.errors.items()} == {
        3: "encoder_error",
        20: "encoder_error",
    }
    assert not result.vectors[[3, 20]].any()


def test_contents_of_an_earlier_batch_come_from_the_cache() -> None:
    counting = Counting()
    embed = embedder(counting, cache=VectorCache(2**20, 32))
    embed(ITEMS[:12])
    assert_same(embed(ITEMS), ITEMS)
    assert sum(counting.seen) == len(ITEMS)


def test_rows_that_failed_are_not_cached() -> None:
    embed = embedder(Brittle(str(ITEMS[3].text), "vector"), cache=VectorCache(2**20, 32))
    assert embed(ITEMS).errors.keys() == embed(ITEMS).errors.keys() == {3}


def test_an_encoder_with_lanes_runs_batches_beside_each_other_and_one_without_does_not() -> None:
    beside, alone = Counting(lanes=2), Counting(lanes=1)
    assert_same(embedder(beside)(ITEMS), ITEMS)
    assert_same(embedder(alone)(ITEMS), ITEMS)
    assert all(name.startswith("lane") for name in beside.threads)
    assert alone.threads == {threading.current_thread().name}


def test_on_lanes_too_a_failing_row_costs_itself_and_no_other() -> None:
    items = [Item.of("word " * (1 + place)) for place in range(12)]
    result = embedder(Counting(lanes=2, poison="word " * 5))(items)
    assert {place: error.code for place, error in result.errors.items()} == {4: "encoder_error"}


@pytest.mark.parametrize(("poison", "where"), [(3, "prepare"), (3, "forward"), (3, "vector"), (99, "")])
def test_rows_that_another_process_prepared_come_to_the_same(poison: int, where: str) -> None:
    bad = InvalidItemError("text is empty", code="empty_text")
    rows = [*ITEMS[:8], bad, *ITEMS[2:12], ITEMS[0]]
    encoder = Brittle(str(ITEMS[poison].text) if where else "", where)
    prepared = pickle.loads(pickle.dumps(PreparedRows.of(encoder, rows)))
    for start, stop in ((0, len(rows)), (5, 15), (10, 20), (8, 9)):
        found, expected = embedder(encoder).embed(prepared.cut(start, stop)), embedder(encoder)(rows[start:stop])
        assert np.array_equal(found.vectors, expected.vectors)
        assert found.keys == expected.keys
        assert {place: error.code for place, error in found.errors.items()} == {
            place: error.code for place, error in expected.errors.items()
        }
        good = [place for place in range(stop - start) if place not in found.errors]
        assert (found.tokens[good].tolist(), found.samples[good].tolist()) == (
            expected.tokens[good].tolist(),
            expected.samples[good].tolist(),
        )


def test_prepared_rows_whose_vectors_are_cached_are_not_embedded_again() -> None:
    counting = Counting()
    embed = embedder(counting, cache=VectorCache(2**20, 32))
    embed.embed(PreparedRows.of(counting, ITEMS[:12]))
    assert_same(embed.embed(PreparedRows.of(counting, ITEMS)), ITEMS)
    assert sum(counting.seen) == len(ITEMS)
