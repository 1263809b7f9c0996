"""An entry of signals that are classified by the words for their classes."""

from pathlib import Path
from typing import Final, Literal

from pydantic import Field, field_validator

from lakebed.platform.config.entries.base import Sets

TEMPLATES: Final = ("{}", "a recording of {}", "a time series of {}", "sensor readings: {}")
"""Sentences that class words are put into; written before anything was measured with them, and not tuned since."""


class ZeroShot(Sets):
    """Signals classified by the words for their classes: no label is ever seen."""

    task: Literal["zero_shot"]
    """Chooses this kind of entry."""

    class_names: Path | None = None
    """JSON of the words: `{"SET": {"names": {"label": "words"}}}`; by default class_names.json of the folder."""

    templates: tuple[str, ...] = Field(default=TEMPLATES, min_length=1)
    """Sentences with one `{}` for the words of a class; their vectors are averaged."""

    @field_validator("templates")
    @classmethod
    def _each_has_a_place_for_words(cls, templates: tuple[str, ...]) -> tuple[str, ...]:
        for template in templates:
            if template.count("{}") != 1:
                raise ValueError(f"{template!r} needs one {{}} where the words of a class go")
        return templates

    @property
    def reads_folder(self) -> bool:
        """There is nothing bundled with class words."""
        return True

    @property
    def in_halves(self) -> bool:
        """As for classification."""
        return True
