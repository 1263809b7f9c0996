"""How every benchmark reports: a table for people, one flat JSON object of numbers for programs."""

import argparse
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from lakebed.cli.app import quiet_libraries
from lakebed.platform.machine import machine

Measure = Callable[[argparse.Namespace], dict[str, float]]
AddOptions = Callable[[argparse.ArgumentParser], None]


def arguments(description: str | None) -> argparse.ArgumentParser:
    """Return a parser with the option that every benchmark has."""
    parser = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to this file")
    return parser


def report(figures: Mapping[str, float], path: Path | None = None) -> None:
    """Print figures, and write them with a description of the machine."""
    width = max(map(len, figures))
    for name, value in figures.items():
        print(
            f"{name:<{width}}  {value:>14,.4g}" if isinstance(value, float) else f"{name:<{width}}  {value:>14,}"
        )
    if path:
        path.write_text(json.dumps({**figures, "machine": machine()}, indent=1) + "\n", encoding="utf-8")


def some_of(names: Collection[str], parser: argparse.ArgumentParser) -> None:
    """Add `--only NAME,NAME`, for those who do not want to wait for all."""

    def chosen(text: str) -> list[str]:
        found = text.split(",")
        if unknown := set(found) - set(names):
            raise argparse.ArgumentTypeError(f"no {unknown.pop()}; there are {', '.join(names)}")
        return found

    parser.add_argument("--only", type=chosen, default=list(names), metavar="NAME[,NAME]", help=", ".join(names))


def run_parts(
    description: str | None, parts: Mapping[str, Measure], quick: Mapping[str, object], sizes: Sequence[AddOptions]
) -> None:
    """Measure the parts that are asked for, one after the other, and report; `sizes` add the parts' own options.

    `quick` are values of options for a look.
    """
    parser = arguments(description)
    some_of(parts, parser)
    parser.add_argument("--quick", action="store_true", help="small sizes, for a look; figures mean little")
    parser.add_argument("--model", default="lakebed-embed")
    for add_options in sizes:
        add_options(parser)
    if parser.parse_known_args()[0].quick:
        parser.set_defaults(**quick)
    options = parser.parse_args()
    quiet_libraries()
    figures: dict[str, float] = {}
    for name in options.only:
        figures |= parts[name](options)
    report(figures, options.json)
