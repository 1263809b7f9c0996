"""`lakebed train`: make a model from a seed."""

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from lakebed.cli import console
from lakebed.platform.config.base import read_yaml
from lakebed.platform.config.recipe import Recipe

_DEFAULTS = Recipe()


def train(
    folder: Annotated[Path, typer.Argument(help="Folder to make; must not hold a model yet.")],
    recipe: Annotated[
        Path | None, typer.Option("--recipe", help="YAML file of recipe fields; options below override it.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help=f"Seed of everything random. [default: {_DEFAULTS.seed}]")
    ] = None,
    name: Annotated[str | None, typer.Option(help=f"Name of the model. [default: {_DEFAULTS.name}]")] = None,
    text: Annotated[
        str | None, typer.Option(help="Text weights: a folder, a Hugging Face name, or package:NAME.")
    ] = None,
    corpus: Annotated[int | None, typer.Option(help=f"Generated series. [default: {_DEFAULTS.corpus}]")] = None,
    pairs: Annotated[int | None, typer.Option(help=f"Captioned series. [default: {_DEFAULTS.pairs}]")] = None,
    epochs: Annotated[int | None, typer.Option(help=f"Passes over them. [default: {_DEFAULTS.epochs}]")] = None,
) -> None:
    """Make a model directory from a recipe and a seed, on this machine, without downloading anything.

    The defaults make the model that ships with lakebed, in minutes on two cores.
    """
    values: dict[str, Any] = read_yaml(recipe) if recipe else {}
    given = {"seed": seed, "name": name, "text": text, "corpus": corpus, "pairs": pairs, "epochs": epochs}
    values = {**values, **{field: value for field, value in given.items() if value is not None}}
    chosen = Recipe.parse(values, where=str(recipe or "options"))

    from lakebed.jobs.train import train as run

    started = time.monotonic()
    artifact = run(chosen, folder, lambda line: console.err.print(f"[{time.monotonic() - started:6.1f} s] {line}"))
    console.out.print(f"{folder}  digest {artifact.digest}")
