"""Encoders that workers import by path: one kills its process, one waits to be killed, one drifts, one is slow."""

import os
import threading
from collections.abc import Sequence
from pathlib import Path

from lakebed.platform.encoder.fake import FakeEncoder
from lakebed.platform.encoder.prepared import Prepared, VectorArray
from lakebed.platform.items import Item

POISON = ("the first poisoned row", "the second poisoned row")
HOLD = "wait here until killed: "


class Deadly(FakeEncoder):
    """Dies in `forward`, and takes its process along, with a poisoned row."""

    def __init__(self) -> None:
        super().__init__(16)

    def forward(self, work: Prepared) -> VectorArray:
        deadly = {bytes.fromhex(Item.of(text).content_key()) for text in POISON}
        if any(work.columns["key"].row(row).tobytes() in deadly for row in range(len(work))):
            os._exit(9)
        return super().forward(work)


class Held(FakeEncoder):
    """Writes its process id to the file that a text names, and waits; unless there is such a file already."""

    def __init__(self) -> None:
        super().__init__(16)

    def prepare(self, items: Sequence[Item]) -> Prepared:
        for item in items:
            if item.text and item.text.startswith(HOLD) and not Path(item.text.removeprefix(HOLD)).exists():
                Path(item.text.removeprefix(HOLD)).write_text(str(os.getpid()))
                threading.Event().wait()
        return super().prepare(items)


class Drifting(FakeEncoder):
    """Has vectors of its own in every process."""

    def __init__(self) -> None:
        super().__init__(16)

    def forward(self, work: Prepared) -> VectorArray:
        vectors = super().forward(work)
        vectors[:, os.getpid() % 16] += 1
        return vectors / (vectors**2).sum(axis=1, keepdims=True) ** 0.5


class Slow(FakeEncoder):
    """Takes its time."""

    def __init__(self) -> None:
        super().__init__(16, seconds_per_row=0.01)
