"""The `input` of a request, in all the forms that the three vendors' clients send, as items.

Knows shapes, not meaning: an item validates itself, and `tokens` knows whose ids a token array holds. The order in
which forms are tried is part of the contract:

1. a string: native input when it is JSON of one item object or a list of them, else a text
2. a list, whose members are strings (each a text, or JSON of one item object) or item objects
3. a list of whole numbers, which is one token array, or a list of token arrays
4. one item object
"""

from collections.abc import Sequence
from typing import Any, Final

import orjson

from lakebed.platform.errors import InvalidItemError
from lakebed.platform.items import ITEM_SCHEMA, Item, item_of
from lakebed.serve.errors import InvalidRequestError

_ITEM_FIELDS: Final = frozenset(ITEM_SCHEMA.names)


def read_items(value: Any, *, max_inputs: int, as_text: bool = False) -> list[Item]:
    """Turn `input` into items; raises InvalidRequestError naming the position.

    One string may hold several items. With `as_text` no string is looked into. Token arrays are no items: ask
    `read_token_rows` first.
    """
    members = _members(value, as_text)
    if not members:
        raise _invalid("input must not be empty", "empty_input")
    _check_count(members, max_inputs)
    return [_item(member, position, as_text) for position, member in enumerate(members)]


def read_token_rows(value: Any, *, max_inputs: int) -> list[list[int]] | None:
    """The token arrays in `input`, none empty, one per input; None when it begins with something else.

    Raises InvalidRequestError naming the first that is none, and the place in it.
    """
    if not isinstance(value, list) or not value:
        return None
    first = value[0]
    if _is_token(first):
        rows = [value]
    elif isinstance(first, list) and first and _is_token(first[0]):
        rows = value
    else:
        return None
    _check_count(rows, max_inputs)
    for position, row in enumerate(rows):
        _check_token_row(row, position)
    return [[int(token) for token in row] for row in rows]


def _check_count(members: Sequence[Any], most: int) -> None:
    if len(members) > most:
        raise _invalid(f"input has {len(members):,} items, at most {most:,} are allowed", "too_many_inputs")


def _check_token_row(row: Any, position: int) -> None:
    if not isinstance(row, list):
        message = f"input {position} must be a token array as the first one is, not {_json_name(row)}"
        raise _invalid(message, "invalid_type", position)
    if not row:
        raise _invalid(f"input {position}: the token array is empty", "empty_input", position)
    for place, token in enumerate(row):
        if not _is_token(token):
            message = f"input {position}: token {place} must be a whole number, not {_json_name(token)}"
            raise _invalid(message, "invalid_token", position)


def _members(value: Any, as_text: bool) -> list[Any]:
    if isinstance(value, str):
        native = None if as_text else _native(value)
        return [value] if native is None else native if isinstance(native, list) else [native]
    if isinstance(value, dict):
        return [value]
    if isinstance(value, list):
        return value
    raise _invalid(
        f"input must be a string, a list or an object, not {_json_name(value)}",
        "invalid_type",
        hint='such as "a text" or [{"text": …, "time_series": [[…]]}]',
    )


def _item(member: Any, position: int, as_text: bool) -> Item:
    if isinstance(member, str) and not as_text:
        native = _native(member)
        member = native if isinstance(native, dict) else member
    if not isinstance(member, str | dict):
        raise _invalid(
            f"input {position} must be a string or an object, not {_json_name(member)}", "invalid_type", position
        )
    try:
        return item_of(member)
    except InvalidItemError as error:
        message = f"input {position}: {error.message}"
        raise InvalidRequestError(
            message, hint=error.hint, param="input", code=error.code, position=position
        ) from None


def _native(text: str) -> Any:
    """The item object, or the list of them, that a string holds as JSON; None when it is a plain text."""
    if text.lstrip()[:1] not in ("[", "{"):
        return None
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    members = value if isinstance(value, list) else [value]
    return value if members and all(map(_is_item_object, members)) else None


def _is_item_object(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() <= _ITEM_FIELDS
        and (value.get("text") is not None or value.get("time_series") is not None)
    )


def _is_token(value: Any) -> bool:
    """Whether it is a whole number; 5.0 is one, in JSON Schema and so in the interface's own document."""
    return (isinstance(value, int) and not isinstance(value, bool)) or (
        isinstance(value, float) and value.is_integer()
    )


def _json_name(value: Any) -> str:
    names = {
        bool: "a boolean",
        int: "a number",
        float: "a number",
        str: "a string",
        list: "a list",
        dict: "an object",
        type(None): "null",
    }
    return names.get(type(value), type(value).__name__)


def _invalid(message: str, code: str, position: int | None = None, hint: str | None = None) -> InvalidRequestError:
    return InvalidRequestError(message, hint=hint, param="input", code=code, position=position)
