"""Token arrays as `input`. Ids do not say whose they are, so the configuration does; nothing here guesses.

They are refused, or the served model's own and taken as they are, or of one of tiktoken's encodings and read back
as the text they were made of. Knows neither the other forms of `input` (`inputs`) nor what is cut (`truncation`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np

from lakebed.platform.config.serve import TokenInput
from lakebed.platform.encoder.prepared import IntArray
from lakebed.platform.encoder.protocol import Encoder, TokenEncoder
from lakebed.platform.errors import ConfigError, InvalidItemError
from lakebed.platform.items import Item
from lakebed.serve.errors import InvalidRequestError

if TYPE_CHECKING:
    from tiktoken import Encoding

TokenRows = Sequence[Sequence[int]]
"""Token arrays, none empty, one per input."""


@dataclass(frozen=True, eq=False)
class OwnTokens:
    """Token arrays in the vocabulary of the model that was asked for, one per input."""

    rows: Sequence[IntArray]

    def __len__(self) -> int:
        return len(self.rows)


class TokenReader(Protocol):
    """Says what token arrays mean."""

    def check(self, encoder: Encoder) -> None:
        """Raise ConfigError when token arrays for this encoder could never be read."""
        ...

    def read(self, rows: TokenRows, encoder: Encoder) -> list[Item] | OwnTokens:
        """What the arrays say to `encoder`; raises InvalidRequestError naming the first that says nothing."""
        ...


class NoTokens:
    """Refuses token arrays: ids of one tokenizer are noise to another."""

    def check(self, encoder: Encoder) -> None:
        """Fits every encoder."""

    def read(self, rows: TokenRows, encoder: Encoder) -> list[Item]:
        """Say what can be done about it, on either side."""
        raise InvalidRequestError(
            "input holds token ids, which do not say whose vocabulary they are of, and this server was not told",
            hint="send text (LangChain: check_embedding_ctx_length=False), or say in serve.yaml "
            "whose they are: token_input: cl100k_base for OpenAI's, token_input: model for the model's own",
            param="input",
            code="unsupported_token_input",
        )


class ModelTokens:
    """Takes ids as the served model's own, special tokens included, as vLLM and text-embeddings-inference do."""

    def check(self, encoder: Encoder) -> None:
        """Raise ConfigError unless the encoder takes ids."""
        if not isinstance(encoder, TokenEncoder):
            raise ConfigError(
                f"token_input model: the encoder {encoder.info.name} takes no token ids",
                hint="it would have to be a lakebed.platform.encoder.protocol.TokenEncoder",
            )

    def read(self, rows: TokenRows, encoder: Encoder) -> OwnTokens:
        """Check the range of the ids."""
        if not isinstance(encoder, TokenEncoder):
            raise InvalidRequestError(
                "this model takes no token ids", hint="send text", param="input", code="unsupported_token_input"
            )
        last = encoder.vocabulary - 1
        for position, row in enumerate(rows):
            if min(row) < 0 or max(row) > last:
                place = next(place for place, token in enumerate(row) if not 0 <= token <= last)
                raise _unknown(row, position, place, f"{encoder.info.name} has ids 0 to {last:,}")
        return OwnTokens([np.array(row, np.int64) for row in rows])


class DecodedTokens:
    """Reads ids of one of tiktoken's encodings back as text."""

    def __init__(self, encoding: "Encoding") -> None:
        self._encoding = encoding
        self._special = frozenset(map(encoding.encode_single_token, encoding.special_tokens_set))

    def check(self, encoder: Encoder) -> None:
        """Fits every encoder: it gets text."""

    def read(self, rows: TokenRows, encoder: Encoder) -> list[Item]:
        """Decode each array to an item; half a character, where a client cut between tokens, becomes U+FFFD."""
        return [self._item(row, position) for position, row in enumerate(rows)]

    def _item(self, row: Sequence[int], position: int) -> Item:
        if not self._special.isdisjoint(row):
            raise self._refusal(row, position)
        try:
            text = self._encoding.decode(row, errors="replace")
        except (KeyError, OverflowError):
            raise self._refusal(row, position) from None
        try:
            return Item.of(text)
        except InvalidItemError as error:
            raise InvalidRequestError(
                f"input {position}: {error.message}", param="input", code=error.code, position=position
            ) from None

    def _refusal(self, row: Sequence[int], position: int) -> InvalidRequestError:
        place = next(place for place, token in enumerate(row) if not self._stands_for_text(token))
        return _unknown(row, position, place, f"{self._encoding.name} has no text for it")

    def _stands_for_text(self, token: int) -> bool:
        try:
            self._encoding.decode_single_token_bytes(token)
        except (KeyError, OverflowError):
            return False
        return token not in self._special


def token_reader(choice: TokenInput) -> TokenReader:
    """Make what `token_input` names; raises ConfigError when tiktoken or the encoding's file is not to be had."""
    if choice == "refuse":
        return NO_TOKENS
    if choice == "model":
        return ModelTokens()
    return DecodedTokens(_encoding(choice))


NO_TOKENS: Final = NoTokens()


def _encoding(name: str) -> "Encoding":
    try:
        import tiktoken
    except ImportError:
        raise ConfigError(
            f"token_input {name}: the package tiktoken is not installed", hint="pip install 'lakebed[tiktoken]'"
        ) from None
    try:
        return tiktoken.get_encoding(name)
    except (OSError, ValueError) as error:  # requests' errors are OSErrors
        raise ConfigError(
            f"token_input {name}: tiktoken cannot get the encoding's file ({type(error).__name__})",
            hint="where there is a network it downloads it once into the folder TIKTOKEN_CACHE_DIR; "
            "bring that folder here and set the variable",
        ) from None


def _unknown(row: Sequence[int], position: int, place: int, why: str) -> InvalidRequestError:
    return InvalidRequestError(
        f"input {position}: token {place} is {row[place]}, and {why}",
        param="input",
        code="invalid_token",
        position=position,
    )
