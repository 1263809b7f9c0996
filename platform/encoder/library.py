"""`from lakebed import Encoder`: the encoder for notebooks and scripts, in two lines.

Takes what is at hand and reports what was cut. Knows neither how items are read off it (`sources.py`) nor how
vectors come about (`protocol.py`).
"""

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self

import numpy as np

from lakebed.platform.encoder import protocol
from lakebed.platform.encoder.load import DEFAULT_MODEL, Device, Model, resolve_model
from lakebed.platform.encoder.prepared import VectorArray
from lakebed.platform.encoder.protocol import Encoded
from lakebed.platform.encoder.sources import source_of


class TruncationWarning(UserWarning):
    """Texts were longer than the model's window; `encode_with_counts` tells which, and how much was cut."""


class Encoder:
    """A loaded model. `encoder` is the underlying prepare/forward/finish object. One thread at a time."""

    def __init__(self, encoder: protocol.Encoder, model: Model | None = None) -> None:
        self.encoder = encoder
        self.model = model

    @classmethod
    def load(cls, model: str = DEFAULT_MODEL, *, device: Device = "auto") -> Self:
        """Load the packaged model, a model directory, NAME@VERSION or NAME@ALIAS, or a class by import path.

        Only a reference with an @ asks the registry, so that a notebook needs none.
        """
        resolved = _resolve(model)
        return cls(resolved.load(device), resolved)

    @property
    def info(self) -> protocol.EncoderInfo:
        """Name, digest, native dimensions and text window."""
        return self.encoder.info

    def encode(
        self,
        items: Any,
        *,
        dimensions: int | None = None,
        columns: Mapping[str, Any] | None = None,
        progress: bool = False,
    ) -> VectorArray:
        """Embed texts, arrays (channels x samples), mappings of item fields, or Items, mixed as you like.

        `items` is any iterable of them, or whatever is Arrow or gives it: a table, a column, a pandas or polars
        frame, a stream of batches. `columns` says which columns of a table are `text`, `series` or `channels`.
        Returns (n, dimensions) float32, each of unit length, in order.

        Raises InvalidItemError with the position of the first item that cannot be embedded, before any work is
        done unless `items` can be read only once. Warns with TruncationWarning when texts were cut.
        """
        encoded = self.encode_with_counts(items, dimensions=dimensions, columns=columns, progress=progress)
        if encoded.truncated:
            warnings.warn(_what_was_cut(encoded, self.info.max_tokens), TruncationWarning, stacklevel=2)
        return encoded.vectors

    def encode_with_counts(
        self,
        items: Any,
        *,
        dimensions: int | None = None,
        columns: Mapping[str, Any] | None = None,
        progress: bool = False,
    ) -> Encoded:
        """Embed as `encode` does, and return with the vectors what each item cost and lost, instead of warning.

        `item_tokens`, `item_truncated` (tokens beyond the model's window, which the vector knows nothing of) and
        `item_samples` are arrays of n counts; `tokens`, `truncated` and `samples` their sums.
        """
        protocol.check_dimensions(self.info, dimensions)
        source = source_of(items, columns).checked()
        with _progress(source.count) if progress else _silence() as advance:
            parts = protocol.encode_windows(self.encoder, source.items(), dimensions, advance=advance)
            return protocol.joined(parts, self.info, dimensions, source.count)


def _resolve(model: str) -> Model:
    if "@" not in model:
        return resolve_model(model)
    from lakebed.platform.config.environment import read_environment
    from lakebed.platform.registry import Registry

    return resolve_model(model, Registry(read_environment().resolved_tracking_uri))


def _what_was_cut(encoded: Encoded, window: int) -> str:
    cut = encoded.item_truncated
    worst = int(np.argmax(cut))
    return (
        f"{np.count_nonzero(cut):,} of {len(encoded):,} items have more text than the model's window of "
        f"{window:,} tokens: {encoded.truncated:,} tokens were cut, most of item {worst} ({cut[worst]:,}). "
        "Split long texts, or call encode_with_counts to learn what each lost"
    )


@contextmanager
def _progress(total: int | None) -> Iterator[Callable[[int], None]]:
    """Show a bar on standard error, or in a notebook; yields what counts items."""
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task("encoding", total=total)
        yield lambda count: bar.advance(task, count)


@contextmanager
def _silence() -> Iterator[None]:
    yield None
