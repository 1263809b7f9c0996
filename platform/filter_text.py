"""Filters as they are written: `site == 'north' and year >= 2024`; whether they can be read, and what they name.

The language and its parser are pyiceberg's: comparisons, `in (…)`, `between … and …`, `is null`, `like 'prefix%'`,
`and`, `or`, `not` and parentheses; text in single quotes, odd column names in double quotes. Knows no table.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Final

from lakebed.platform.errors import ConfigError

EXAMPLE: Final = "write it like: site == 'north' and (year >= 2024 or note is null)"


@lru_cache(maxsize=64)
def parse_filter(text: str) -> Any:
    """Return pyiceberg's tree of a filter, every `not` moved down to the comparisons; raises ConfigError."""
    from pyiceberg.expressions.parser import parse
    from pyiceberg.expressions.visitors import rewrite_not

    try:
        tree = rewrite_not(parse(text))
    except Exception:  # noqa: BLE001  the parser's errors spell out its grammar, and are of several kinds
        raise ConfigError(f"filter {text!r} cannot be read", hint=EXAMPLE) from None
    if not any(True for _ in predicates(tree)):
        raise ConfigError(f"filter {text!r} names no column", hint=EXAMPLE)
    return tree


def predicates(tree: Any) -> Iterator[Any]:
    """Yield every comparison in a tree."""
    if hasattr(tree, "term"):
        yield tree
    elif hasattr(tree, "left"):
        yield from predicates(tree.left)
        yield from predicates(tree.right)


def columns_in(text: str) -> tuple[str, ...]:
    """Columns that a filter names, sorted."""
    return tuple(sorted({predicate.term.name for predicate in predicates(parse_filter(text))}))
