"""How long a user waits for a suite: from nothing, and once more when the vectors are on disk."""

import argparse
import json
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.evaluation_command import seconds_of


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add where the archive is, and how to look at little of it."""
    parser.add_argument("--data", type=Path, help="folder of UCR sets, NAME/NAME_TRAIN.ts; without it, none")
    parser.add_argument("--limit", type=int, help="at most so many examples per part")


def measure_smoke(options: argparse.Namespace) -> dict[str, float]:
    """Measure the suite twice in one folder of state: the second time all scores anew."""
    with TemporaryDirectory(prefix="lakebed-evaluation-") as folder:
        home, command = Path(folder), ("eval", "--suite", "smoke", *_common(options))
        return {
            "smoke_cold_seconds": seconds_of(home, *command),
            "smoke_warm_seconds": seconds_of(home, *command, "--again"),
        }


def measure_ucr(options: argparse.Namespace) -> dict[str, float]:
    """Measure every set of the folder once."""
    if options.data is None:
        print("ucr_cold_seconds: left out, no --data")
        return {}
    with TemporaryDirectory(prefix="lakebed-evaluation-") as folder:
        file = Path(folder) / "figures.json"
        command = ("eval", "--suite", "classification", "--data", options.data.resolve(), "--json", file)
        seconds = seconds_of(Path(folder), *command, *_common(options))
        figures = json.loads(file.read_text(encoding="utf-8"))
    accuracies = [key for key in figures if key.endswith("/classification/knn_accuracy")]
    return {
        "ucr_cold_seconds": seconds,
        "ucr_sets": sum(not key.startswith("mean") for key in accuracies),
        "ucr_knn_accuracy": figures["mean/classification/knn_accuracy"],
        "ucr_linear_probe_accuracy": figures["mean/classification/linear_probe_accuracy"],
    }


def _common(options: argparse.Namespace) -> list[object]:
    limit = ["--limit", options.limit] if options.limit else []
    return ["--model", options.model, *limit]
