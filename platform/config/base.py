"""What every configuration model shares: frozen, no unknown fields, errors in one line.

Knows YAML and pydantic; does not know what any field means.
"""

from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from lakebed.platform.errors import ConfigError


class Config(BaseModel):
    """The base of all configuration: immutable, and an unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    @classmethod
    def from_yaml(cls, path: str | Path) -> Self:
        """Read and check one YAML file; raises ConfigError naming the file, the field and the fault."""
        return cls.parse(read_yaml(path), where=str(path))

    @classmethod
    def parse(cls, values: Any, *, where: str) -> Self:
        """Check `values`; raises ConfigError that begins with `where`."""
        if not isinstance(values, dict):
            raise ConfigError(f"{where}: expected a mapping of fields, found {type(values).__name__}")
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise ConfigError(f"{where}: {describe(error)}") from None


def read_yaml(path: str | Path) -> Any:
    """Parse one YAML file; raises ConfigError when it is missing, unreadable or no YAML."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    try:
        return yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "unknown place"
        raise ConfigError(f"{path}: not valid YAML at {place}: {error.problem}") from None


def describe(error: ValidationError) -> str:
    """Say every fault of a pydantic error in one line: `field: what is wrong; field: …`."""
    faults = []
    for fault in error.errors(include_url=False):
        field = ".".join(str(part) for part in fault["loc"]) or "(whole file)"
        if fault["type"] == "extra_forbidden":
            faults.append(f"{field}: unknown field")
        elif fault["type"] == "missing":
            faults.append(f"{field}: required field is missing")
        else:
            message = fault["msg"].removeprefix("Value error, ")
            faults.append(f"{field}: {message[:1].lower()}{message[1:]}")
    return "; ".join(faults)
