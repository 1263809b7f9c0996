"""Signals whose classes have names: test parts of UCR and UEA problems, and trials of a wrist accelerometer.

The words come from a JSON file beside the data. All trials are used, not those of some subjects: nothing is
trained, so nobody has to be held out.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np

from lakebed.eval.datasets import Dataset, LabelArray, Part
from lakebed.eval.series_files import read_split
from lakebed.eval.sources.protocol import given_folder
from lakebed.eval.sources.trials import holds_trials, read_trials
from lakebed.platform.config.base import Config
from lakebed.platform.config.entries.zero_shot import ZeroShot
from lakebed.platform.errors import ConfigError, DatasetNotFoundError
from lakebed.platform.items import Item

_FILE: Final = "class_names.json"
_FORM: Final = 'expected {"SET": {"names": {"label": "words", ...}}, ...}'
_EXPECTED: Final = f"data sets such as GunPoint/GunPoint_TEST.ts, or har_hmp/Walk/*.txt, and {_FILE}"


class ClassNames(Config):
    """The words of one data set."""

    source: str = ""
    """Where the words were found."""

    names: dict[str, str]
    """Words by class label; the case of labels does not matter."""


@dataclass(frozen=True)
class NamedClasses:
    """The sets that the words file names and the folder, or a folder in it, holds."""

    entry: ZeroShot

    def names(self) -> list[str]:
        """Sets to read; one that is asked for or excluded by name must have words, and be there if asked for."""
        for name in (*self.entry.names, *self.entry.exclude):
            if name not in self._words or (name in self.entry.names and name not in self._found):
                raise DatasetNotFoundError(
                    f"{self._folder}: no data set {name!r}, or no words for its classes",
                    hint=f"here with words: {', '.join(self._found) or 'none'}",
                )
        chosen = [name for name in self.entry.names or self._found if name not in self.entry.exclude]
        if not chosen:
            raise DatasetNotFoundError(
                f"{self._folder}: none of the data sets that {self._words_file()} names is here",
                hint=f"expected {_EXPECTED}; named are {', '.join(self._words)}",
            )
        return chosen

    def missing(self) -> list[str]:
        """Sets that have words but are not there."""
        wanted = self.entry.names or self._words
        return [name for name in wanted if name not in self._found and name not in self.entry.exclude]

    def load(self, limit: int | None = None) -> Iterator[Dataset]:
        """Read the sets: part `class` has every class in every template, part `test` the signals."""
        for name in self.names():
            folder = self._found[name]
            test, filled = _signals(folder)
            words = self._words[name].names
            parts = {
                "class": _prompts(words, self.entry.templates),
                "test": _in_words(test, words, f"{folder} and {self._words_file()}"),
            }
            if limit:
                parts["test"] = parts["test"].limited(limit)
            yield Dataset(name, folder.parent.name, folder.as_uri(), parts, filled)

    @property
    def _folder(self) -> Path:
        return given_folder(self.entry.path, _EXPECTED)

    @cached_property
    def _words(self) -> dict[str, ClassNames]:
        path = self._words_file()
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigError(f"{path}: cannot be read as JSON: {error}", hint=_FORM) from None
        if not isinstance(content, dict):
            raise ConfigError(f"{path}: holds no mapping", hint=_FORM)
        return {name: ClassNames.parse(value, where=f"{path}, {name}") for name, value in content.items()}

    def _words_file(self) -> Path:
        if self.entry.class_names is not None:
            return self.entry.class_names
        places = [self._folder, *self._folder.parents[:2]]
        for place in places:
            if (place / _FILE).is_file():
                return place / _FILE
        raise DatasetNotFoundError(
            f"{self._folder}: no {_FILE} in it or above it",
            hint=f"put one there, or name it as `class_names` in a suite file; {_FORM}",
        )

    @cached_property
    def _found(self) -> dict[str, Path]:
        """Where each named set lies: in the folder, one deeper, or the folder itself."""
        folder = self._folder
        places = [folder, *sorted(path for path in folder.iterdir() if path.is_dir()), folder.parent]
        found = {}
        for name in self._words:
            of_name = [place / name for place in places if place != folder.parent or name == folder.name]
            here = next((path for path in of_name if _is_set(path)), None)
            if here is not None:
                found[name] = here
        return found


def _is_set(folder: Path) -> bool:
    return (folder / f"{folder.name}_TEST.ts").is_file() or holds_trials(folder)


def _signals(folder: Path) -> tuple[Part, int]:
    if holds_trials(folder):
        return read_trials(folder), 0
    series, labels, filled = read_split(folder, "TEST")
    return Part([Item.of(series=values) for values in series], np.asarray(labels, dtype=np.str_)), filled


def _prompts(words: Mapping[str, str], templates: tuple[str, ...]) -> Part:
    prompts = [(said, template.replace("{}", said)) for said in words.values() for template in templates]
    return Part([Item.of(text=text) for _, text in prompts], np.array([said for said, _ in prompts]))


def _in_words(part: Part, words: Mapping[str, str], where: str) -> Part:
    """The part with words for labels; the archive's reader writes labels in lower case, their documents do not."""
    by_label = {label.casefold(): said for label, said in words.items()}
    if len(set(by_label.values())) != len(words):
        raise ConfigError(f"{where}: two classes have the same words or label", hint="tell them apart")
    labels: LabelArray = part.labels
    for label in np.unique(labels):
        if label.casefold() not in by_label:
            raise ConfigError(f"{where}: no words for class {str(label)!r}", hint=f"there are {', '.join(words)}")
    return Part(part.items, np.array([by_label[label.casefold()] for label in labels]))
