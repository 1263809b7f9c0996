"""`lakebed promote` and `lakebed rollback`: which version is served."""

from typing import TYPE_CHECKING

import typer

from lakebed.cli import console
from lakebed.cli.compare import comparison_table
from lakebed.cli.evaluate import stores
from lakebed.platform.errors import GateError

if TYPE_CHECKING:
    from lakebed.eval.promote import Decision
    from lakebed.platform.registry import ModelVersion


def promote(
    model: str = typer.Argument(help="The version to serve from now on: NAME@VERSION or NAME@ALIAS."),
    suite: str | None = typer.Option(None, "--suite", "-s", help="Suite; by default the newest both were run on."),
    figure: str | None = typer.Option(None, "--figure", help="Deciding figure; by default the first headline."),
    guard: list[str] = typer.Option(
        [],
        "--guard",
        help="FIGURE or FIGURE:TOLERANCE that must not fall (by more); may be repeated. Default: other headlines.",
    ),
    margin: float = typer.Option(0.0, min=0.0, help="The gain must surely be above this."),
    draws: int = typer.Option(10_000, min=100, help="How often examples are drawn for the intervals."),
    force: bool = typer.Option(False, "--force", help="Promote whatever the figures say."),
    dry_run: bool = typer.Option(False, "--dry-run", help="Say what would be done, and change nothing."),
) -> None:
    """Make a version the champion if it is surely better than the champion and safe, and write down why."""
    from lakebed.eval import promote as champions
    from lakebed.eval.gate import parse_guard
    from lakebed.eval.subject import resolve_subject

    guards = [parse_guard(text) for text in guard]
    registry, tracking = stores()
    candidate = resolve_subject(model, registry)
    version = champions.registered(candidate)
    current = champions.champion_of(version.name, registry)
    if current and current.version == version.version:
        console.out.print(f"{version.reference} is the champion already")
        return
    if force:
        decision = champions.Decision(True, "forced")
    else:
        champion = resolve_subject(current.reference, registry) if current else None
        decision = champions.decide(
            candidate, champion, tracking, suite=suite, figure=figure, guards=guards, margin=margin, draws=draws
        )
    _show(decision)
    if not decision.holds:
        raise GateError(
            f"{version.reference} is not promoted: {decision.reason}", hint="--force promotes it all the same"
        )
    if dry_run:
        console.out.print(f"{version.reference} would be the champion: {decision.reason}", markup=False)
        return
    champions.promote(version, decision, registry)
    console.out.print(f"{version.reference} is the champion: {decision.reason}", markup=False)
    if current:
        console.err.print(f"`lakebed rollback {version.name}` brings back {current.reference}", markup=False)


def rollback(
    name: str = typer.Argument(help="The model's name, such as lakebed-embed."),
    to: int | None = typer.Option(None, "--to", min=1, help="An earlier champion; by default the one before."),
    reason: str = typer.Option("rolled back by hand", "--reason", help="Kept on the version that is left."),
    dry_run: bool = typer.Option(False, "--dry-run", help="Say what would be done, and change nothing."),
) -> None:
    """Make the champion before the present one the champion again; once more goes further back."""
    from lakebed.eval.promote import plan_rollback, roll_back

    registry, _ = stores()
    plan = plan_rollback(name, registry, to)
    if not dry_run:
        roll_back(plan, reason, registry)
    is_now = "would be" if dry_run else "is"
    console.out.print(
        f"{plan.target.reference} {is_now} the champion again, instead of {plan.champion.reference}", markup=False
    )
    console.err.print(_why(plan.target), markup=False)


def _show(decision: "Decision") -> None:
    if decision.comparison:
        for note in decision.comparison.notes:
            console.err.print(f"note: {note}", markup=False)
        console.out.print(comparison_table(decision.comparison))


def _why(version: "ModelVersion") -> str:
    from lakebed.eval.promote import PROMOTED, PROMOTED_AT

    if PROMOTED not in version.tags:
        return f"{version.reference} was made champion without a reason on record"
    return f"promoted {version.tags.get(PROMOTED_AT, 'some time ago')}: {version.tags[PROMOTED]}"
