"""Labelled series, or texts, with perturbed copies of their test part as further parts: `test~noise_10db`, …."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from lakebed.eval.datasets import Dataset, Part
from lakebed.eval.perturbations import perturbations
from lakebed.eval.sources.archive import Archive
from lakebed.platform.config.entries.robustness import Robustness

MARK: Final = "~"
"""Stands between a part's name and what was done to it."""

SUFFIX: Final = "-perturbed"
"""Ends the data set's name."""


@dataclass(frozen=True)
class Perturbed:
    """The sets of an archive, each with its copies."""

    entry: Robustness

    def names(self) -> list[str]:
        """The archive's, each with a mark: with the copies it is another data set."""
        return [f"{name}{SUFFIX}" for name in self._archive.names()]

    def missing(self) -> list[str]:
        """The archive's."""
        return self._archive.missing()

    def load(self, limit: int | None = None) -> Iterator[Dataset]:
        """Read the sets and make the copies; of the test part at most `examples` are used."""
        for data in self._archive.load(limit):
            test = data.parts["test"].limited(self.entry.examples)
            parts = {"train": data.parts["train"], "test": test, **self._copies(test)}
            yield replace(data, name=f"{data.name}{SUFFIX}", parts=parts)

    def _copies(self, test: Part) -> dict[str, Part]:
        return {
            f"test{MARK}{one.name}": Part([one.of(item, self.entry.seed) for item in test.items], test.labels)
            for one in perturbations(self.entry)
            if all(map(one.applies_to, test.items))
        }

    @property
    def _archive(self) -> Archive:
        return Archive(self.entry.labelled)
