"""A text made of several columns: `"{site}: {note}"`. Python's format syntax, cut down to names and formats.

Knows no tables: what a column holds is the caller's business. A text without a field is the name of one column;
`{{` and `}}` stand for braces in both.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from string import Formatter
from typing import Any, Self


@dataclass(frozen=True)
class Field:
    """A column's place in a template, and Python's format specification for its values."""

    column: str
    format: str = ""

    def shown(self, value: Any) -> str:
        """Return a value as text; raises what `format` raises for a specification that does not fit."""
        return format(value, self.format) if self.format else str(value)


@dataclass(frozen=True)
class TextTemplate:
    """Literal texts with fields between them; or, without `fields`, the name of one column."""

    literals: tuple[str, ...]
    fields: tuple[Field, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Take a template apart; raises ValueError that says what is wrong with it."""
        try:
            parsed = list(Formatter().parse(text))
        except ValueError as error:
            raise ValueError(f"{text!r} is no template: {error}; write {{{{ for a brace") from None
        literals, fields = [""], []
        for literal, name, form, conversion in parsed:
            literals[-1] += literal
            if name is None:
                continue
            _check(text, name, form, conversion)
            fields.append(Field(name, form or ""))
            literals.append("")
        return cls(tuple(literals), tuple(fields))

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that must be read, each once."""
        if not self.fields:
            return self.literals
        return tuple(dict.fromkeys(field.column for field in self.fields))

    @property
    def column(self) -> str | None:
        """The one column that this is the name of; None for a template."""
        return None if self.fields else self.literals[0]

    def filled(self, values: Sequence[str]) -> str:
        """Return the text with a value for each field, in their order."""
        between = (part for pair in zip(values, self.literals[1:], strict=True) for part in pair)
        return "".join((self.literals[0], *between))


def _check(text: str, name: str, form: str | None, conversion: str | None) -> None:
    if not name.strip():
        raise ValueError(f"{text!r} has a field without a name; write {{column}}, or {{{{}}}} for braces")
    if conversion:
        raise ValueError(f"{text!r}: !{conversion} is not known here; write {{{name}}} or {{{name}:.2f}}")
    if form and ("{" in form or "}" in form):
        raise ValueError(f"{text!r}: the format of {name!r} holds a field; only columns do")
