"""What commands print: results to standard output, everything else to standard error."""

from rich.console import Console

out = Console(highlight=False, soft_wrap=True)
"""Results: tables and values a user may pipe."""

err = Console(stderr=True, highlight=False, soft_wrap=True)
"""Progress, notes and errors."""
