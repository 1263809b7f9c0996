"""Why a request is refused. What each becomes over HTTP is in `error_responses`.

LakebedError
`-- RequestError              carries `param` and `code` for the client
    |-- InvalidRequestError   the request does not say something that can be done
    |-- UnauthorizedError     no key, or one that is unknown, expired or revoked
    |-- ModelNotAllowedError  the key may not use this model
    |-- TooLargeError         the body is over the limit
    |-- TooSlowError          the body did not arrive in time
    |-- UnsupportedMediaError the body is compressed, or of a type that is not JSON
    |-- OverloadedError       too much work is waiting; carries when to come back
    |   `-- RateLimitedError  a key or an address has used up what it may in a minute
    |-- DeadlineError         it was not answered in the time that it had
    `-- NotReadyError         the server cannot answer now
"""

from lakebed.platform.errors import LakebedError


class RequestError(LakebedError):
    """The root of refusals; `param` names the field at fault, `code` is a stable short name of the reason."""

    default_code = "invalid_request"

    @property
    def param(self) -> str | None:
        """The request field at fault, such as `input`."""
        param: str | None = self.context.get("param")
        return param

    @property
    def code(self) -> str:
        """A short name of the reason that does not change with the wording."""
        return str(self.context.get("code", self.default_code))


class InvalidRequestError(RequestError):
    """The request does not say something that can be done; `position` is the input at fault, if one is."""

    @property
    def position(self) -> int | None:
        """Index of the input at fault."""
        position: int | None = self.context.get("position")
        return position


class UnauthorizedError(RequestError):
    """No key, or one that is unknown, expired or revoked."""

    default_code = "invalid_api_key"


class ModelNotAllowedError(RequestError):
    """The key may not use this model."""

    default_code = "model_not_allowed"


class TooLargeError(RequestError):
    """The body is over the limit."""

    default_code = "payload_too_large"


class TooSlowError(RequestError):
    """The body did not arrive in time."""

    default_code = "request_timeout"


class UnsupportedMediaError(RequestError):
    """The body is compressed, or is of a type that is not JSON."""

    default_code = "unsupported_media_type"


class OverloadedError(RequestError):
    """Too much work is waiting; `retry_after` is when to come back, in seconds."""

    default_code = "rate_limit_exceeded"

    @property
    def retry_after(self) -> float:
        """Seconds until it is worth trying again."""
        return float(self.context.get("retry_after", 1.0))


class DeadlineError(RequestError):
    """The request was not answered in the time that the server, or its client, gave it."""

    default_code = "deadline_exceeded"


class RateLimitedError(OverloadedError):
    """A key or an address has used up what it may in a minute; the server itself is not busy."""


class NotReadyError(RequestError):
    """The server cannot answer now: it is starting, or its key store does not answer."""

    default_code = "overloaded"


class ServerError(LakebedError):
    """The server could not be brought up, or Ray died under it."""
