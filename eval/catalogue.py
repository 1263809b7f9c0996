"""The suites that ship with lakebed, and a user's own suite files."""

from importlib.resources import files
from pathlib import Path

from lakebed.platform.config.suite import Suite
from lakebed.platform.errors import DatasetNotFoundError


def shipped_suites() -> dict[str, Path]:
    """Every shipped suite's file by name."""
    folder = Path(str(files("lakebed"))) / "eval" / "suites"
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def find_suite(reference: str) -> Suite:
    """Read a suite by name, or from a file; raises DatasetNotFoundError or ConfigError."""
    if reference.endswith((".yaml", ".yml")) or "/" in reference:
        return Suite.from_yaml(reference)
    shipped = shipped_suites()
    if reference not in shipped:
        raise DatasetNotFoundError(
            f"no suite named {reference!r}", hint=f"shipped are {', '.join(shipped)}; or give a YAML file"
        )
    return Suite.from_yaml(shipped[reference])
