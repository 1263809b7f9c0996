"""lakebed: text and time series in one vector space, served, embedded in bulk and compared by version.

Importing this package imports nothing heavy; `lakebed.Encoder` loads on first use.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lakebed.platform.encoder.library import Encoder

__version__ = "0.1.0"
__all__ = ["Encoder", "__version__"]


def __getattr__(name: str) -> object:
    """Import `Encoder` only when it is asked for: torch takes seconds to load."""
    if name == "Encoder":
        from lakebed.platform.encoder.library import Encoder

        return Encoder
    raise AttributeError(f"module 'lakebed' has no attribute {name!r}")
