"""How long `lakebed models` and `lakebed compare` take on an MLflow that has been used for a while."""

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.evaluation_command import seconds_of, state_in
from benchmarks.evaluation_compare import LABEL, drawn_sets, log_drawn
from lakebed.eval.subject import resolve_subject
from lakebed.platform.config.environment import read_environment
from lakebed.platform.encoder.artifact import write_artifact
from lakebed.platform.registry import Registry
from lakebed.platform.tracking import Tracking

NAME = "aged"
EXAMPLES = 1_000


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add how much MLflow holds."""
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--versions", type=int, default=50)


def measure(options: argparse.Namespace) -> dict[str, float]:
    """Fill a database, and ask it."""
    with TemporaryDirectory(prefix="lakebed-evaluation-") as folder, state_in(Path(folder)):
        home = Path(folder)
        _fill(home, options.runs, options.versions)
        pair = (f"{NAME}@{options.versions - 1}", f"{NAME}@{options.versions}")
        return {
            "models_seconds": seconds_of(home, "models"),
            "compare_500_seconds": seconds_of(home, "compare", *pair, "--suite", LABEL),
            "logged_runs": options.runs,
            "registered_versions": options.versions,
        }


def _fill(home: Path, runs: int, versions: int) -> None:
    """Register versions, and log runs of each in turn."""
    uri = read_environment().resolved_tracking_uri
    registry, tracking = Registry(uri), Tracking(uri)
    for number in range(versions):
        folder = home / "made" / str(number)
        folder.parent.mkdir(exist_ok=True)
        tensors = {"weight": np.full(2, number, np.float32)}
        write_artifact(folder, {"name": NAME}, tensors, f"# {NAME} {number}\n")
        registry.register(folder, NAME)
    sets = drawn_sets(EXAMPLES)
    for number in range(runs):
        subject = resolve_subject(f"{NAME}@{number % versions + 1}", registry)
        log_drawn(subject, sets, 0.8, number, tracking, registry)
        if number % 50 == 0:
            print(f"{number} of {runs} runs logged", flush=True)
