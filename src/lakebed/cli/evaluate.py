"""`lakebed eval`: measuring a model by a suite."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from lakebed.cli import console
from lakebed.platform.encoder.load import DEFAULT_MODEL, Device

if TYPE_CHECKING:
    from rich.table import Table

    from lakebed.eval.record import Recorded
    from lakebed.eval.run import Evaluation
    from lakebed.eval.subject import Subject
    from lakebed.platform.registry import Registry
    from lakebed.platform.tracking import Tracking


SUITE_HELP = (
    "smoke, standard, behaviour, anomaly, classification, regression, retrieval, pairs, cross_modal, sts, "
    "zero_shot, or a YAML file of your own."
)
DATA_HELP = (
    "Folder to read. classification: UCR/UEA sets, NAME/NAME_TRAIN.ts, or train.csv and test.csv of texts; "
    "retrieval: corpus.jsonl, queries.jsonl and qrels/test.tsv; cross_modal: captioned series, `*test.json`; "
    "sts: sts-test.csv; zero_shot: UCR/UEA sets or accelerometer trials, with class_names.json; "
    "anomaly: `data/CATEGORY/*.csv` with labels/combined_windows.json."
)


_FEW = 4
"""Columns of a task that has no headlines, such as `cost`."""


def evaluate(
    context: typer.Context,
    model: str = typer.Option(
        DEFAULT_MODEL, "--model", "-m", help="NAME@VERSION, ./folder, MODEL#128, http://HOST/v1?model=NAME, …"
    ),
    suite: str = typer.Option("smoke", "--suite", "-s", help=SUITE_HELP),
    data: Path | None = typer.Option(None, "--data", help=DATA_HELP),
    dimensions: int | None = typer.Option(None, min=1, help="Cut vectors to so many dimensions first."),
    only: list[str] = typer.Option([], "--only", help="Measure this data set only; may be repeated."),
    exclude: list[str] = typer.Option([], "--exclude", help="Leave this data set out; may be repeated."),
    limit: int | None = typer.Option(None, min=1, help="At most so many examples per part: a quick look."),
    device: str = typer.Option("auto", help="auto, cpu or cuda."),
    json_file: Path | None = typer.Option(None, "--json", help="Write every figure to this file."),
    workers: int | None = typer.Option(None, min=1, help="Encode and measure with so many workers, on Ray."),
    address: str | None = typer.Option(None, "--address", help="Ray cluster to do it on: auto, or HOST:PORT."),
    no_cache: bool = typer.Option(False, "--no-cache", help="Neither use nor keep vectors and results on disk."),
    again: bool = typer.Option(False, "--again", help="Measure anew what was measured before; vectors are kept."),
) -> None:
    """Measure a model by a suite, log it in MLflow, and print its scores."""
    if context.invoked_subcommand:
        return
    from lakebed.eval.catalogue import find_suite
    from lakebed.eval.progress import watching
    from lakebed.eval.record import Running, evaluate_and_record
    from lakebed.eval.subject import resolve_subject

    chosen = find_suite(suite).with_options(
        data=data, names=tuple(only), exclude=tuple(exclude), dimensions=dimensions
    )
    registry, tracking = stores()
    subject = resolve_subject(model, registry, chosen.dimensions)
    with watching(console.err) as progress:
        recorded = evaluate_and_record(
            subject,
            chosen.model_copy(update={"dimensions": subject.dimensions}),
            label=chosen.name if data is None else f"{chosen.name}/{data.resolve().name}",
            tracking=tracking,
            registry=registry,
            device=_device(device),
            limit=limit,
            whole=not (only or exclude),
            progress=progress,
            running=Running(workers, address, cache=not no_cache, again=again),
        )
    for table in _score_tables(subject, recorded):
        console.out.print(table)
    for note in recorded.evaluation.notes:
        console.err.print(f"note: {note}", markup=False)
    if json_file:
        write_figures(json_file, recorded.figures)
    _say_where(subject, recorded)


def _say_where(subject: "Subject", recorded: "Recorded") -> None:
    """Name the run; raises NotLoggedError, which has an exit code of its own, when there is none yet."""
    from lakebed.platform.errors import NotLoggedError

    if recorded.waits_in:
        raise NotLoggedError(
            f"no MLflow server answers: the evaluation is kept in {recorded.waits_in}",
            hint="`lakebed eval sync` uploads it when one does",
        )
    if recorded.earlier:
        when = f"{recorded.earlier.started:%Y-%m-%d %H:%M} UTC"
        console.err.print(f"already measured in run {recorded.run_id} of {when}, costs too; --again measures anew")
        return
    console.err.print(f"MLflow run {recorded.run_id}; {_versioned(subject)}")


def stores() -> "tuple[Registry, Tracking]":
    """The registry and the runs of the environment's MLflow."""
    from lakebed.platform.config.environment import read_environment
    from lakebed.platform.registry import Registry
    from lakebed.platform.tracking import Tracking

    uri = read_environment().resolved_tracking_uri
    return Registry(uri), Tracking(uri)


def write_figures(path: Path, figures: Mapping[str, float]) -> None:
    """Write one flat JSON object of numbers, and what they were measured on."""
    from lakebed.platform.errors import ConfigError
    from lakebed.platform.machine import machine

    try:
        path.write_text(json.dumps({**figures, "machine": machine()}, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from None
    console.err.print(f"figures in {path}")


def _score_tables(subject: "Subject", recorded: "Recorded") -> "Iterator[Table]":
    """A table per task: headline metrics by data set, then their means; in brackets what guessing would score."""
    from rich.table import Table

    evaluation = recorded.evaluation
    figures = recorded.figures
    for task in dict.fromkeys(one.task.name for one in evaluation.measured):
        measured = [one for one in evaluation.measured if one.task.name == task]
        first = measured[0]
        shown = first.task.headlines or list(first.result.metrics)[:_FEW]
        columns = [(metric, first.result.chance_of(metric)) for metric in shown]
        caption = "in brackets: what guessing would score" if any(chance for _, chance in columns) else None
        title = f"{subject.label} on {evaluation.suite.name}: {task}"
        table = Table(title=title, title_justify="left", caption=caption, caption_justify="left")
        table.add_column("data set")
        for metric, _ in columns:
            table.add_column(metric, justify="right", overflow="fold")
        for one in measured:
            table.add_row(*_score_cells(one.data.name, f"{one.data.name}/{task}", "", columns, figures))
        table.add_section()
        for label, prefix, suffix in _overall_rows(evaluation, task):
            cells = _score_cells(label, f"{prefix}/{task}", suffix, columns, figures)
            if any(cells[1:]):  # vectors that are short already have no figures at other lengths
                table.add_row(*cells, style="bold" if label == "mean" else "")
        yield table


def _overall_rows(evaluation: "Evaluation", task: str) -> "Iterator[tuple[str, str, str]]":
    """Label, first part and ending of the keys of each row below the data sets."""
    yield "mean", "mean", ""
    halves = {one.half for one in evaluation.measured if one.in_halves and one.task.name == task}
    for half in sorted(halves):
        yield f"mean, {half} names", f"mean_{half}", ""
    lengths = {length for entry in evaluation.suite.entries if entry.task == task for length in entry.dimensions}
    for length in sorted(lengths):
        yield f"mean, {length} dimensions", "mean", f"_{length}d"


def _score_cells(
    label: str,
    prefix: str,
    suffix: str,
    columns: Sequence[tuple[str, str | None]],
    figures: Mapping[str, float],
) -> list[str]:
    """A row: the label, then each metric, and its chance level in brackets where it is of the same key."""
    cells = [label]
    for metric, chance in columns:
        value = figures.get(f"{prefix}/{metric}{suffix}")
        guessed = None if chance is None or suffix else figures.get(f"{prefix}/{chance}")
        brackets = "" if guessed is None else f" ({guessed:.4f})"
        cells.append("" if value is None else f"{value:.4f}{brackets}")
    return cells


def _versioned(subject: "Subject") -> str:
    if subject.version is not None:
        return f"model version {subject.version.reference}"
    if subject.model.kind != "artifact":
        return f"{subject.model.reference} is no model directory and cannot be registered"
    return f"not registered: `lakebed register {subject.model.reference}` makes it a version"


def _device(name: str) -> Device:
    if name not in ("auto", "cpu", "cuda"):
        raise typer.BadParameter(f"{name!r}: choose auto, cpu or cuda", param_hint="--device")
    return name  # type: ignore[return-value]  # just checked, which the type checker cannot follow
