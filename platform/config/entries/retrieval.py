"""An entry of queries, documents, and what people judged the documents with."""

from typing import Literal

from lakebed.platform.config.entries.base import Sets


class Retrieval(Sets):
    """Folders in the form of BEIR or of the Cranfield collection: queries against a corpus, by judgements."""

    task: Literal["retrieval"]
    """Chooses this kind of entry."""

    split: str = "test"
    """Which judgements of a BEIR folder: qrels/SPLIT.tsv."""

    @property
    def reads_folder(self) -> bool:
        """There is nothing bundled."""
        return True
