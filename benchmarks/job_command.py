"""`lakebed embed` as a user runs it, and peers beside it: processes of their own that say what they did."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]

Watch = Callable[[int], AbstractContextManager[object]]
"""Watches a process, by its id, for as long as it runs."""


@dataclass(frozen=True)
class Ran:
    """What one run said of itself, and `waited`, the seconds from the start of its process to its end."""

    figures: dict[str, Any]
    waited: float

    @property
    def rows(self) -> int:
        """Rows that were embedded or quarantined."""
        return int(self.figures["embedded"] + self.figures["quarantined"])

    @property
    def per_second(self) -> float:
        """Rows/s, start-up apart."""
        return float(self.figures["rows"] / self.figures["seconds"])

    @property
    def seconds(self) -> float:
        """Seconds of the run as it reports them, start-up included."""
        return float(self.figures["startup_seconds"] + self.figures["seconds"])


def embed(source: Path, sink: Path, model: str, *options: object, watch: Watch = lambda _: nullcontext()) -> Ran:
    """Embed the column `value` of a table; raises RuntimeError with what the command said when it fails."""
    return ran(embed_command(source, sink, model, *options), watch)


def embed_command(source: Path, sink: Path, model: str, *options: object) -> list[str]:
    """Return the command that embeds the column `value` of a table."""
    command = ["lakebed", "embed", "--source", source, "--sink", sink, "--text", "value", "--key", "id"]
    return [sys.executable, "-m", *map(str, [*command, "--model", model, "--no-track", *options])]


def ran(
    command: Sequence[str],
    watch: Watch = lambda _: nullcontext(),
    variables: Mapping[str, str] | None = None,
) -> Ran:
    """Run a command that says what it did as an EmbedReport does; see `figures_of`."""
    return Ran(*figures_of(command, watch, variables))


def figures_of(
    command: Sequence[str],
    watch: Watch = lambda _: nullcontext(),
    variables: Mapping[str, str] | None = None,
) -> tuple[dict[str, Any], float]:
    """Run a command that takes `--json FILE`; returns its figures, and the seconds that it ran for.

    Raises RuntimeError with its last words. `variables` are its environment; default: this process's, and workers
    find what lies in this folder. Its registry of models is an empty one.
    """
    with tempfile.TemporaryDirectory(prefix="lakebed-run-") as folder:
        figures, log = Path(folder) / "figures.json", Path(folder) / "log.txt"
        began = time.monotonic()
        with log.open("w") as output:
            process = subprocess.Popen(
                [*command, "--json", str(figures)],
                cwd=ROOT,
                env={**(variables or _variables()), "LAKEBED_HOME": folder},
                stdout=output,
                stderr=output,
            )
            try:
                with watch(process.pid):
                    code = process.wait()
            finally:
                process.kill()
        waited = time.monotonic() - began
        if code:
            raise RuntimeError(f"{' '.join(command[:6])}: {log.read_text(encoding='utf-8').strip()[-2000:]}")
        return json.loads(figures.read_text(encoding="utf-8")), waited


def _variables() -> dict[str, str]:
    """This process's environment, in which workers also find what lies in this folder."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))}
