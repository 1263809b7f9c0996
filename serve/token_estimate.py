"""How many token equivalents a request has, guessed from its bytes before anything is parsed.

Text is about four letters a token. Numbers of a time series are told from text by their characters, and counted by
the commas between them. A guess: what was prepared is counted exactly, and replaces it.
"""

from typing import Final

SAMPLES_PER_TOKEN: Final = 16
"""Values of a time series that count as one token in usage and limits."""

_LETTERS_PER_TOKEN: Final = 4
_OF_NUMBERS: Final = b"0123456789+-.eE,[] \n\r\t"
_SAMPLE_BYTES: Final = 2**20


def estimate_tokens(body: bytes) -> int:
    """Token equivalents of a request, at least 1; looks at the first MiB and takes the rest to be like it."""
    sample = body[:_SAMPLE_BYTES]
    text = len(sample.translate(None, _OF_NUMBERS)) // _LETTERS_PER_TOKEN
    tokens = text + sample.count(b",") // SAMPLES_PER_TOKEN
    return 1 + tokens * len(body) // max(1, len(sample))
