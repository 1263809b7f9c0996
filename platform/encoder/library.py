"""`from lakebed import Encoder`: the encoder for notebooks and scripts, in two lines."""

from collections.abc import Sequence
from typing import Any, Self

from lakebed.platform.encoder import protocol
from lakebed.platform.encoder.load import DEFAULT_MODEL, Device, resolve_model
from lakebed.platform.encoder.prepared import VectorArray
from lakebed.platform.items import items_of


class Encoder:
    """A loaded model. `encoder` is the underlying prepare/forward/finish object."""

    def __init__(self, encoder: protocol.Encoder) -> None:
        self.encoder = encoder

    @classmethod
    def load(cls, model: str = DEFAULT_MODEL, *, device: Device = "auto") -> Self:
        """Load the packaged model, a model directory, or a user's own class by import path."""
        return cls(resolve_model(model).load(device))

    @property
    def info(self) -> protocol.EncoderInfo:
        """Name, digest, native dimensions and text window."""
        return self.encoder.info

    def encode(self, items: Sequence[Any], *, dimensions: int | None = None) -> VectorArray:
        """Embed texts, arrays (channels x samples), mappings of item fields, or Items, mixed as you like.

        Returns (n, dimensions) float32, each of unit length. Raises InvalidItemError with the position of the
        first item that cannot be embedded.
        """
        return protocol.encode(self.encoder, items_of(items), dimensions).vectors
