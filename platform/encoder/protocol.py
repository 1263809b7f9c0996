"""What an encoder is: three calls. The endpoint, the batch job and a notebook make the same three.

`prepare` runs on CPU threads, `forward` owns the device, `finish` turns raw vectors into what users get.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Protocol, runtime_checkable

import numpy as np

from lakebed.platform.encoder.plan import Budget, Window, length_sorted_batches, windows
from lakebed.platform.encoder.prepared import IntArray, Prepared, VectorArray
from lakebed.platform.errors import ArtifactError, ConfigError
from lakebed.platform.items import Item


@dataclass(frozen=True)
class EncoderInfo:
    """What callers may know of an encoder.

    `dimensions` is the native length of a vector; `max_tokens` the text window, special tokens included;
    `digest` identifies the weights: equal digest, equal vectors.
    """

    name: str
    digest: str
    dimensions: int
    max_tokens: int


@runtime_checkable
class Encoder(Protocol):
    """Turns items into unit-length float32 vectors. `forward` need not be thread-safe; the others are.

    One whose `forward` is says so by `lanes`: see `ConcurrentEncoder`.
    """

    @property
    def info(self) -> EncoderInfo:
        """Name, digest and sizes."""
        ...

    def prepare(self, items: Sequence[Item]) -> Prepared:
        """Tokenize and resample valid items, in order."""
        ...

    def forward(self, work: Prepared) -> VectorArray:
        """Run one batch on the device; (n, dimensions) float32, unit length."""
        ...

    def finish(self, vectors: VectorArray, dimensions: int | None = None) -> VectorArray:
        """Truncate to `dimensions`, then L2-renormalise; (n, dimensions) float32, C-contiguous."""
        ...


@runtime_checkable
class TokenEncoder(Encoder, Protocol):
    """An encoder that also takes token ids of its own, and cuts texts shorter than its window asks.

    No encoder has to be one. The endpoint needs it for `token_input: model` and `truncate_prompt_tokens`.
    """

    @property
    def vocabulary(self) -> int:
        """How many token ids there are; each is from 0 to one less."""
        ...

    @property
    def special_tokens(self) -> int:
        """How many special tokens go around every text; a window that holds no more would leave nothing of it."""
        ...

    def prepare_within(self, items: Sequence[Item], window: int) -> Prepared:
        """Do as `prepare` does, with texts cut to `window` tokens, special ones included."""
        ...

    def prepare_tokens(self, rows: Sequence[IntArray], window: int) -> Prepared:
        """Take rows of token ids, none empty, as they are: nothing is added to them; cut as a text of them is."""
        ...


@runtime_checkable
class ConcurrentEncoder(Encoder, Protocol):
    """An encoder whose `forward` may run on several threads at once, each with one core to itself."""

    @property
    def lanes(self) -> int:
        """How many forwards at once are fastest."""
        ...


@runtime_checkable
class ChoosyEncoder(Encoder, Protocol):
    """An encoder that cannot embed every item, such as a server that knows texts only."""

    def takes(self, item: Item) -> bool:
        """Whether it can embed this one."""
        ...


def lanes_of(encoder: Encoder) -> int:
    """How many forwards may run at once."""
    return encoder.lanes if isinstance(encoder, ConcurrentEncoder) else 1


@dataclass(frozen=True, eq=False)
class Encoded:
    """Vectors (n, dimensions) float32 in the order of the items, with what each cost and what was cut of it.

    Per item: text tokens that were embedded, text tokens beyond the model's window that were not, series values.
    """

    vectors: VectorArray
    item_tokens: IntArray
    item_truncated: IntArray
    item_samples: IntArray

    @property
    def tokens(self) -> int:
        """Text tokens embedded, over all items."""
        return int(self.item_tokens.sum())

    @property
    def truncated(self) -> int:
        """Text tokens cut off, over all items."""
        return int(self.item_truncated.sum())

    @property
    def samples(self) -> int:
        """Series values, over all items."""
        return int(self.item_samples.sum())

    def __len__(self) -> int:
        return len(self.vectors)


def encode(
    encoder: Encoder, items: Sequence[Item], dimensions: int | None = None, budget: Budget | None = None
) -> Encoded:
    """Embed any number of items in their order, holding no more prepared than one window of them."""
    return joined(encode_windows(encoder, items, dimensions, budget), encoder.info, dimensions, len(items))


def encode_windows(
    encoder: Encoder,
    items: Iterable[Item],
    dimensions: int | None = None,
    budget: Budget | None = None,
    window: Window | None = None,
    advance: Callable[[int], None] | None = None,
) -> Iterator[Encoded]:
    """Embed a stream of items, yielding one window of them after the other.

    In a window, items are prepared at once and run in length-sorted batches within `budget`. `advance` is told the
    number of items after every batch.
    """
    check_dimensions(encoder.info, dimensions)
    for held in windows(items, size_of, window or Window()):
        work = encoder.prepare(held)
        vectors = forward_in_batches(encoder, work, budget, advance)
        yield Encoded(encoder.finish(vectors, dimensions), work.tokens, work.truncated, work.samples)


def forward_in_batches(
    encoder: Encoder, work: Prepared, budget: Budget | None = None, advance: Callable[[int], None] | None = None
) -> VectorArray:
    """Run prepared items in length-sorted batches; (n, native dimensions) float32 in their order."""
    vectors = np.empty((len(work), encoder.info.dimensions), np.float32)
    for batch, found in _run(encoder, work, budget or Budget()):
        vectors[batch] = found
        if advance:
            advance(len(batch))
    return vectors


def planned_batches(encoder: Encoder, work: Prepared, budget: Budget) -> Iterator[IntArray]:
    """Cut work into length-sorted batches within a budget, small enough that every lane gets one."""
    count = lanes_of(encoder)
    if count > 1:
        share = max(_LEAST_SHARE, -(-int(work.costs.sum()) // count))
        budget = Budget(min(budget.cost, share), budget.rows)
    return length_sorted_batches(work.costs, budget)


def _run(encoder: Encoder, work: Prepared, budget: Budget) -> Iterator[tuple[IntArray, VectorArray]]:
    """Run every batch, several at once where the encoder can; yields them in order."""
    batches = planned_batches(encoder, work, budget)
    count = lanes_of(encoder)
    if count == 1:
        for batch in batches:
            yield batch, forward(encoder, work.take(batch))
        return
    from lakebed.platform.encoder.lanes import lanes

    planned = list(batches)
    found = lanes(count).map(lambda batch: forward(encoder, work.take(batch)), planned)
    yield from zip(planned, found, strict=True)


def joined(
    parts: Iterable[Encoded], info: EncoderInfo, dimensions: int | None = None, count: int | None = None
) -> Encoded:
    """Put windows together; with `count`, the number of all items, each is let go as soon as it is copied."""
    if count is None:
        parts = list(parts)
        count = sum(map(len, parts))
    vectors = np.empty((count, dimensions or info.dimensions), np.float32)
    counts = np.zeros((3, count), np.int64)
    start = 0
    for part in parts:
        stop = start + len(part)
        vectors[start:stop] = part.vectors
        counts[:, start:stop] = part.item_tokens, part.item_truncated, part.item_samples
        start = stop
    return Encoded(vectors, *counts)


def size_of(item: Item) -> int:
    """Roughly how many numbers an item takes while it is worked on: its characters, samples and channels."""
    channels = 0 if item.series is None else len(item.series)
    return _ITEM_SIZE + len(item.text or "") + item.samples + _CHANNEL_SIZE * channels


_LEAST_SHARE: Final = 128
"""Cost of a batch below which there is no use in cutting it in two."""

_ITEM_SIZE: Final = 64
"""What an item takes besides, in numbers: many short texts are not little."""

_CHANNEL_SIZE: Final = 512
"""What a channel takes besides: encoders resample, so 512 channels of one sample are not little either."""


def forward(encoder: Encoder, work: Prepared) -> VectorArray:
    """Run one batch; an array of another shape would be spread over the rows in silence."""
    vectors = encoder.forward(work)
    expected = (len(work), encoder.info.dimensions)
    if vectors.shape != expected:
        raise ArtifactError(
            f"encoder {encoder.info.name}: forward gave vectors of shape {vectors.shape}, not {expected}"
        )
    return vectors


def check_dimensions(info: EncoderInfo, dimensions: int | None) -> None:
    """Raise ConfigError unless vectors of this encoder can be cut to `dimensions`."""
    if dimensions is not None and not 1 <= dimensions <= info.dimensions:
        raise ConfigError(f"dimensions must be between 1 and {info.dimensions} for {info.name}, not {dimensions}")


def truncate(vectors: VectorArray, dimensions: int | None) -> VectorArray:
    """Keep the first `dimensions` of each vector and bring it back to unit length.

    Matryoshka truncation (Kusupati et al. 2022, arXiv 2205.13147). A zero vector stays zero.
    """
    if dimensions is None or dimensions == vectors.shape[1]:
        return np.ascontiguousarray(vectors)
    cut = np.array(vectors[:, :dimensions], order="C")
    norms = np.linalg.norm(cut, axis=1, keepdims=True)
    cut /= np.where(norms > 0, norms, 1)
    return cut
