"""`lakebed drift`: whether the vectors of a table have changed between two of its versions."""


def drift() -> None:
    """Placeholder until below."""
