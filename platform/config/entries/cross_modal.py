"""An entry of captions and the series they describe."""

from pathlib import Path
from typing import Literal

from pydantic import PositiveInt, model_validator

from lakebed.platform.config.entries.base import OneSet, folder_name


class CrossModal(OneSet):
    """Retrieval between captions and the series they describe: generated pairs of the test split, or people's."""

    task: Literal["cross_modal"]
    """Chooses this kind of entry."""

    source: Literal["generated", "folder", "either"] = "generated"
    """`folder`: captions that people wrote, *test.json of a folder; `either`: those when there is a folder."""

    path: Path | None = None
    """The folder; given here or by `--data`."""

    name: str = "synthetic"
    """Name of the generated data set in figures; a folder's is its own."""

    pool: PositiveInt = 1000
    """Generated pairs: every caption is asked against so many series, and the other way round."""

    seed: int = 20261121
    """Seed of the generated pairs."""

    @model_validator(mode="after")
    def _generated_pairs_have_no_path(self) -> "CrossModal":
        if self.source == "generated" and self.path is not None:
            raise ValueError("path is for source: folder, or either")
        return self

    @property
    def reads_folder(self) -> bool:
        """Unless it is told to generate."""
        return self.source != "generated"

    @property
    def is_generated(self) -> bool:
        """Whether it measures generated pairs."""
        return self.source == "generated" or (self.source == "either" and self.path is None)

    @property
    def known_as(self) -> str | None:
        """The name of the generated pairs, or the folder's."""
        return self.name if self.is_generated else folder_name(self.path)
