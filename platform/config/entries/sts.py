"""An entry of sentence pairs with a score that people gave."""

from pathlib import Path
from typing import Literal

from lakebed.platform.config.entries.base import OneSet, folder_name


class Sts(OneSet):
    """Sentence pairs with a human similarity score, in the form of the STS benchmark."""

    task: Literal["sts"]
    """Chooses this kind of entry."""

    path: Path | None = None
    """The folder of sts-dev.csv and sts-test.csv; given here or by `--data`."""

    split: Literal["dev", "test"] = "test"
    """Which of the files."""

    @property
    def reads_folder(self) -> bool:
        """There is nothing bundled."""
        return True

    @property
    def known_as(self) -> str | None:
        """The folder's name."""
        return folder_name(self.path)
