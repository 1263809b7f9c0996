"""What clients send to the embeddings endpoint, read from bytes and checked.

A superset of OpenAI's, Inference.net's and InertialAI's request; unknown fields are ignored, as each vendor has
some that the others lack. Does not read `input`: `inputs` does.
"""

from typing import Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, StrictInt, StrictStr, ValidationError

from lakebed.platform.precision import EmbedDtype
from lakebed.serve.errors import InvalidRequestError


class EmbeddingsRequest(BaseModel):
    """One request to embed."""

    model_config = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)

    model: StrictStr
    """Name of a served model; comes back as it was sent."""

    input: Any
    """A text, a list of texts, an item object `{text, time_series}`, or a list of them; token arrays where the
    server is told whose ids they are."""

    dimensions: StrictInt | None = Field(default=None, ge=1)
    """Length of the vectors, at most the model's own; they are cut and brought back to unit length."""

    encoding_format: Literal["float", "base64"] | None = None
    """`float` (default): JSON numbers; or `base64` of the little-endian bytes of `embed_dtype`."""

    embed_dtype: EmbedDtype | None = None
    """`float32` (default), `float16`, or `int8`: numbers from -127 to 127, to be multiplied by the `scale` beside
    them."""

    truncate: Literal["error", "end"] | None = None
    """What to do with a text over the model's window: refuse (default), or cut its end off."""

    truncate_prompt_tokens: StrictInt | None = Field(default=None, ge=-1)
    """vLLM's way to say it: cut texts to so many tokens, special ones included; -1 is the model's window."""

    truncation_side: Literal["right"] | None = None
    """vLLM's, too: which end is cut off; only the right one can be."""

    user: Any = None
    """The caller's name for its end user; not used."""

    metadata: dict[str, Any] | None = None
    """The caller's own data; not used."""


def read_request(body: bytes) -> EmbeddingsRequest:
    """Parse and check a body; raises InvalidRequestError naming every field at fault.

    The parser takes JSON strictly: NaN and Infinity literals, lone surrogates and bottomless nesting are errors.
    """
    try:
        values = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidRequestError(f"the body is not valid JSON: {error}", code="invalid_json") from None
    if not isinstance(values, dict):
        raise InvalidRequestError("the body must be a JSON object", code="invalid_type")
    try:
        return EmbeddingsRequest.model_validate(values)
    except ValidationError as error:
        raise _refusal(error) from None


def _refusal(error: ValidationError) -> InvalidRequestError:
    faults = error.errors(include_url=False, include_context=False, include_input=False)
    messages = [_message(fault["loc"], fault["msg"]) for fault in faults]
    return InvalidRequestError(
        "; ".join(messages),
        param=str(faults[0]["loc"][0]),
        code=faults[0]["type"],
        faults=[
            {"type": fault["type"], "loc": ["body", *fault["loc"]], "msg": message}
            for fault, message in zip(faults, messages, strict=True)
        ],
    )


def _message(place: tuple[int | str, ...], message: str) -> str:
    return f"{'.'.join(map(str, place))}: {message[:1].lower()}{message[1:]}"
