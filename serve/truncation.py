"""What is cut of a long text: nothing unless the request allows it, in this contract's words or in vLLM's.

Knows the request's options and the encoder's window; how a text is cut is the encoder's own business.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from lakebed.platform.encoder.prepared import IntArray, Prepared
from lakebed.platform.encoder.protocol import Encoder, TokenEncoder
from lakebed.platform.items import Item
from lakebed.serve.errors import InvalidRequestError
from lakebed.serve.protocol import EmbeddingsRequest
from lakebed.serve.tokens import OwnTokens

_FIELD: Final = "truncate_prompt_tokens"


@dataclass(frozen=True)
class Truncation:
    """The most tokens of a text that are embedded, special ones included, and whether more may be cut off."""

    window: int
    allowed: bool


def truncation_of(request: EmbeddingsRequest, encoder: Encoder) -> Truncation:
    """What the request says; raises InvalidRequestError when it contradicts itself or asks what cannot be done."""
    own, asked = encoder.info.max_tokens, request.truncate_prompt_tokens
    if asked is None:
        return Truncation(own, request.truncate == "end")
    if request.truncate == "error":
        raise _refusal(
            f'{_FIELD} asks to cut long texts and "truncate": "error" to refuse them', "conflicting_fields"
        )
    if asked == -1 or asked >= own:
        return Truncation(own, True)
    if not isinstance(encoder, TokenEncoder):
        raise _refusal(
            f"{_FIELD}: this model cuts texts at its own window of {own:,} tokens only", "unsupported_truncation"
        )
    if asked <= encoder.special_tokens:
        raise _refusal(
            f"{_FIELD} must be -1 or at least {encoder.special_tokens + 1} for this model: "
            f"{encoder.special_tokens} tokens go around every text",
            "greater_than",
        )
    return Truncation(asked, True)


def prepare(encoder: Encoder, inputs: Sequence[Item] | OwnTokens, window: int) -> Prepared:
    """Make inputs ready for the device, texts cut to `window` tokens."""
    if isinstance(inputs, OwnTokens):
        assert isinstance(encoder, TokenEncoder)
        return encoder.prepare_tokens(inputs.rows, window)
    if window < encoder.info.max_tokens:
        assert isinstance(encoder, TokenEncoder)
        return encoder.prepare_within(inputs, window)
    return encoder.prepare(inputs)


def refuse_truncation(truncated: IntArray, window: int) -> None:
    """Raise InvalidRequestError for the first input of which tokens (n,) would be cut off."""
    too_long = np.flatnonzero(truncated)
    if len(too_long):
        first = int(too_long[0])
        raise InvalidRequestError(
            f"input {first}: the text is {int(truncated[first]):,} tokens over the model's window of {window:,}",
            hint='shorten it, or send "truncate": "end" to have its end cut off',
            param="input",
            code="context_length_exceeded",
            position=first,
        )


def _refusal(message: str, code: str) -> InvalidRequestError:
    return InvalidRequestError(message, param=_FIELD, code=code)
