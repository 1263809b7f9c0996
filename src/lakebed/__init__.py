"""lakebed: text and time series in one vector space, served, embedded in bulk and compared by version.

Importing this package imports nothing heavy; `lakebed.Encoder` loads on first use.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lakebed.platform.encoder.library import Encoder, TruncationWarning

__version__ = "0.1.0"
__all__ = ["Encoder", "TruncationWarning", "__version__"]


def __getattr__(name: str) -> object:
    """Import what is exported only when it is asked for: torch takes seconds to load."""
    if name in ("Encoder", "TruncationWarning"):
        from lakebed.platform.encoder import library

        exported: object = getattr(library, name)
        return exported
    raise AttributeError(f"module 'lakebed' has no attribute {name!r}")
