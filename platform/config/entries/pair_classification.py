"""An entry of pairs that belong together or do not."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from lakebed.platform.config.entries.base import OneSet, folder_name


class PairClassification(OneSet):
    """Pairs of texts or series with a label, 0 or 1: told apart by their cosine."""

    task: Literal["pair_classification"]
    """Chooses this kind of entry."""

    path: Path | None = None
    """The folder; given here or by `--data`. It has SPLIT.jsonl, SPLIT.tsv, or sts-SPLIT.csv."""

    split: Literal["dev", "test"] = "test"
    """Which of the files."""

    threshold: float = Field(default=4.0)
    """Of an STS file: pairs with this score or more belong together."""

    @property
    def reads_folder(self) -> bool:
        """There is nothing bundled."""
        return True

    @property
    def known_as(self) -> str | None:
        """The folder's name."""
        return folder_name(self.path)
