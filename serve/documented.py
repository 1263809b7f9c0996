"""What the OpenAPI document says of requests and answers. Nothing here runs while a request is answered.

Bodies are written as bytes elsewhere (`wire`, `error_responses`); tests hold what they say against these models.
"""

from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat

from lakebed.serve.protocol import EmbeddingsRequest

SCHEMAS: Final = "#/components/schemas/{model}"
BEARER: Final = "bearer"
"""Name of the security scheme."""


class _Documented(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True, protected_namespaces=())


Text = Annotated[str, Field(min_length=1, pattern=r"\S")]
Channel = Annotated[list[float], Field(min_length=1)]


class TextItem(_Documented):
    """A text, embedded as one vector."""

    model_config = ConfigDict(extra="forbid")

    text: Text
    time_series: None = None


class SeriesItem(_Documented):
    """A time series, or one with a text, embedded as one vector."""

    model_config = ConfigDict(extra="forbid")

    time_series: Annotated[list[Channel], Field(min_length=1)] | Channel
    """Channels x samples, all channels of one length; or the samples of one channel. Numbers only, all finite."""

    text: str | None = None
    """A blank one is none."""

    channel_names: list[str] | None = None
    """One for each channel."""

    sampling_rate: PositiveFloat | None = None
    """In Hz."""


Item = TextItem | SeriesItem
Tokens = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]


class DocumentedRequest(EmbeddingsRequest):
    """What to embed, with which model, and in which form to give it back. Unknown fields are ignored."""

    model_config = ConfigDict(title="EmbeddingsRequest")

    input: (
        Text
        | Item
        | Tokens
        | Annotated[list[Text | Item], Field(min_length=1)]
        | Annotated[list[Tokens], Field(min_length=1)]
    )
    """A text, an item, or a list of them, which may be mixed. Token arrays, one or a list, are read where the
    server is told whose ids they hold (`token_input`), and refused elsewhere.

    A string that is JSON of an item, or of a list of items, is read as such, so that clients that can send only
    strings can send time series; the header `x-lakebed-input: text` turns this off.
    """


class Embedding(_Documented):
    """One vector."""

    object: Literal["embedding"]
    index: int = Field(ge=0)
    """Position of its input in the request."""

    embedding: list[float] | str
    """Numbers, or with `encoding_format: base64` the little-endian bytes of `embed_dtype`, float32 by default."""

    scale: float | None = None
    """Only there with `embed_dtype: int8`: what the numbers are to be multiplied by."""


class Usage(_Documented):
    """What the request counted."""

    prompt_tokens: int = Field(ge=0)
    """Tokens of text."""

    total_tokens: int = Field(ge=0)
    """Tokens of text, and one for every 16 samples of a time series."""

    truncated_tokens: int | None = None
    """Tokens that were cut off unread; only there when `truncate: end` cut some."""


class EmbeddingList(_Documented):
    """Vectors in the order of the inputs."""

    id: str
    object: Literal["list"]
    model: str
    """The name that was asked for."""

    data: list[Embedding]
    usage: Usage
    create_time: str
    """ISO 8601, in UTC."""


class Model(_Documented):
    """A model that is served."""

    id: str
    """The name to ask for."""

    object: Literal["model"]
    created: int
    """When this server loaded it, in seconds since 1970."""

    owned_by: str
    version: str
    """Version in the registry, or `unversioned`."""

    digest: str
    """sha256 of its files: equal digests make equal vectors."""

    dimensions: int
    max_tokens: int
    """Tokens of text that it reads; more is an error, or is cut off with `truncate: end`."""

    max_model_len: int
    """The same, as vLLM calls it."""


class ModelList(_Documented):
    """Every name that is served."""

    object: Literal["list"]
    data: list[Model]


class Health(_Documented):
    """That it is well."""

    status: Literal["ok", "ready"]


class Error(_Documented):
    """What went wrong, as OpenAI's clients read it."""

    message: str
    type: str
    param: str | None
    """The field at fault."""

    code: str | None
    """A short name of the reason that does not change with the wording."""


class Fault(_Documented):
    """One thing wrong with a request."""

    type: str
    loc: list[str | int]
    """Where: `body`, the field, the position of the input."""

    msg: str


class Refusal(_Documented):
    """Why there is no answer, for the clients of OpenAI (`error`) and of InertialAI (`detail`)."""

    error: Error
    detail: str
    """The message again."""

    request_id: str
    """As in the header `x-request-id`."""


class InvalidRequest(_Documented):
    """What is wrong with the request, for the clients of OpenAI (`error`) and of InertialAI (`detail`)."""

    error: Error
    detail: list[Fault]
    request_id: str
    """As in the header `x-request-id`."""


def request_body() -> dict[str, Any]:
    """The `requestBody` of an embeddings operation."""
    examples = {name: {"summary": name, "value": value} for name, value in REQUEST_EXAMPLES.items()}
    schema = {"$ref": SCHEMAS.format(model="EmbeddingsRequest")}
    return {"required": True, "content": {"application/json": {"schema": schema, "examples": examples}}}


def request_schemas() -> dict[str, Any]:
    """The schemas that `request_body` refers to, by name."""
    schema = DocumentedRequest.model_json_schema(ref_template=SCHEMAS)
    return {**schema.pop("$defs"), "EmbeddingsRequest": schema}


def success(status: int, description: str, model: type[BaseModel], headers: dict[str, Any] | None = None) -> Any:
    """The `responses` entry for when all went well."""
    return {status: {"description": description, "model": model, "headers": {**_REQUEST_ID, **(headers or {})}}}


def refusals(*statuses: int, invalid: int | None = None) -> dict[int | str, Any]:
    """The `responses` entries for what may go wrong; `invalid` is the status of a faulty request."""
    found: dict[int | str, Any] = {}
    for status in statuses:
        description, headers, _ = _REFUSALS[status]
        found[status] = {"description": description, "model": Refusal, "headers": {**_REQUEST_ID, **headers}}
    if invalid is not None:
        description = "A field or an input is at fault, or the body is no JSON; `detail` lists every fault."
        found[invalid] = {"description": description, "model": InvalidRequest, "headers": _REQUEST_ID}
    return found


def example_refusal(status: int) -> dict[str, Any]:
    """A body that an error of this status may have."""
    _, _, error = _REFUSALS.get(status, ("", {}, _INVALID))
    detail = error[0] if status in _REFUSALS else [_FAULT]
    shown = dict(zip(Error.model_fields, error, strict=True))
    return {"error": shown, "detail": detail, "request_id": _EXAMPLE_ID}


def _header(description: str, kind: str = "string", *, required: bool = False) -> dict[str, Any]:
    return {"description": description, "required": required, "schema": {"type": kind}}


_REQUEST_ID: Final = {
    "x-request-id": _header("Yours, if you sent one that is fit, else a new one; name it to who runs the server.")
}

_RETRY_AFTER: Final = {"retry-after": _header("Seconds until it is worth trying again.", "integer", required=True)}

_RATE_LIMITS: Final = {
    f"x-ratelimit-{what}-{unit}": _header(text.format(unit=unit), kind)
    for unit in ("requests", "tokens")
    for what, text, kind in (
        ("limit", "{unit} a minute that your key allows, when it has a limit.", "integer"),
        ("remaining", "{unit} left of them.", "integer"),
        ("reset", "How long until they are whole again, such as 6m0s.", "string"),
    )
}

EMBEDDINGS_HEADERS: Final = {
    "x-lakebed-model-version": _header("Version of the model that answered, or `unversioned`.", required=True),
    "x-lakebed-model-digest": _header("sha256 of that model: equal digests, equal vectors.", required=True),
    "x-lakebed-truncated-tokens": _header("How many tokens `truncate: end` cut off; absent for none.", "integer"),
    "x-lakebed-prepare-ms": _header("Milliseconds of reading and tokenizing.", "number", required=True),
    "x-lakebed-queue-ms": _header("Milliseconds of waiting for the device.", "number", required=True),
    "x-lakebed-forward-ms": _header("Milliseconds of the device.", "number", required=True),
    "x-lakebed-total-ms": _header("Milliseconds of all of it.", "number", required=True),
    "openai-processing-ms": _header("The same in whole ones.", "integer", required=True),
    **_RATE_LIMITS,
}

EMBEDDINGS_PARAMETERS: Final = [
    {
        "name": "x-lakebed-input",
        "in": "header",
        "description": "`text`: read no string as an item, even if it looks like JSON of one.",
        "schema": {"type": "string"},
        "example": "text",
    },
    {
        "name": "x-request-timeout-seconds",
        "in": "header",
        "description": "How long you wait: what has not got done by then is dropped, with 504.",
        "schema": {"type": "number", "minimum": 1},
        "example": 30,
    },
]

MODEL_PARAMETERS: Final = [
    {
        "name": "name",
        "in": "path",
        "required": True,
        "description": "A served name, slashes and all, or one with a version, such as `lakebed-embed@7`.",
        "schema": {"type": "string", "minLength": 1},
        "example": "lakebed-embed",
    }
]

REQUEST_EXAMPLES: Final[dict[str, dict[str, Any]]] = {
    "a text": {"model": "lakebed-embed", "input": "a pump that rattles"},
    "several texts, shorter vectors": {
        "model": "lakebed-embed",
        "input": ["a pump that rattles", "a pump that hums"],
        "dimensions": 64,
    },
    "a time series of two channels": {
        "model": "lakebed-embed",
        "input": [
            {
                "time_series": [[0.1, 0.4, 0.2, 0.5], [20.0, 20.1, 20.1, 20.2]],
                "channel_names": ["vibration", "temperature"],
                "sampling_rate": 100.0,
            }
        ],
    },
    "a text with a time series, as base64": {
        "model": "lakebed-embed",
        "input": {"text": "pump 4, outlet", "time_series": [[0.1, 0.4, 0.2, 0.5]]},
        "encoding_format": "base64",
    },
}
"""Bodies that are right for any server that serves `lakebed-embed`."""

_EXAMPLE_ID: Final = "0b63fecb-6bd0-454d-afee-bc7c8c6d8cb3"
_INVALID: Final = ("input 1: text is empty", "invalid_request_error", "input", "empty_text")
_FAULT: Final = {"type": "empty_text", "loc": ["body", "input", 1], "msg": "input 1: text is empty"}
_INVALID_KIND: Final = "invalid_request_error"

_REFUSALS: Final[dict[int, tuple[str, dict[str, Any], tuple[str, str, str | None, str]]]] = {
    401: (
        "No key, or one that is wrong, expired or revoked.",
        {"www-authenticate": _header("`Bearer`.", required=True)},
        ("incorrect API key provided: sk-1…", _INVALID_KIND, None, "invalid_api_key"),
    ),
    403: (
        "The key is good, but not for this.",
        {},
        ("this key may not do that", "permission_error", None, "permission_denied"),
    ),
    404: (
        "No such model is served here.",
        {},
        ("the model 'gpt' does not exist here", _INVALID_KIND, "model", "model_not_found"),
    ),
    408: (
        "The body did not arrive in time.",
        {},
        ("the request body did not arrive in time", _INVALID_KIND, None, "request_timeout"),
    ),
    413: (
        "The body is over the limit.",
        {},
        ("the request body is over 67,108,864 bytes", "payload_too_large", None, "payload_too_large"),
    ),
    415: (
        "The body is compressed, or of a type that is not JSON.",
        {},
        ("compressed request bodies are not accepted", _INVALID_KIND, None, "unsupported_media_type"),
    ),
    429: (
        "Too much work is waiting, or the key's limit is reached: try again later.",
        {
            **_RETRY_AFTER,
            "retry-after-ms": _header("The same in milliseconds.", "integer", required=True),
            **_RATE_LIMITS,
        },
        ("the server is busy", "rate_limit_error", None, "rate_limit_exceeded"),
    ),
    500: (
        "A fault of the server's; its log says more.",
        {},
        ("the server failed to answer this request; its log says why", "server_error", None, "internal_error"),
    ),
    504: (
        "Not answered in the time that the server, or the request, allows.",
        {},
        ("the request was not answered within 120 s", "server_error", None, "deadline_exceeded"),
    ),
    503: (
        "The server is starting or stopping, or its key store is silent: try again in a moment.",
        _RETRY_AFTER,
        ("the server is starting or stopping (try again in a moment)", "server_error", None, "overloaded"),
    ),
}
"""By status: what it means, its headers, and an example's message, type, param and code."""
