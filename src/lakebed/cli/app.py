"""The `lakebed` command: its groups, and how an error becomes one line and an exit code."""

import os
import sys

import typer
from rich.markup import escape

from lakebed import __version__
from lakebed.cli import console, evaluate, jobs, kept_evaluations, models, promotion, quarantine, serve
from lakebed.cli.compare import compare
from lakebed.cli.demo import demo
from lakebed.cli.drift import drift
from lakebed.cli.embed import backfill, embed, submit
from lakebed.cli.exit_codes import exit_code
from lakebed.cli.keys import keys
from lakebed.cli.sample import sample
from lakebed.cli.train import train
from lakebed.platform.errors import LakebedError

app = typer.Typer(
    name="lakebed",
    help="Embed text and time series: serve one model, embed whole tables, compare versions.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
evaluation = typer.Typer(invoke_without_command=True)
evaluation.callback()(evaluate.evaluate)
evaluation.command("sync")(kept_evaluations.sync)
evaluation.command("cache")(kept_evaluations.cache)
app.add_typer(evaluation, name="eval")
app.command("compare")(compare)
app.command("models")(models.models)
app.command("register")(models.register)
app.command("promote")(promotion.promote)
app.command("rollback")(promotion.rollback)
app.command("drift")(drift)
app.command("embed")(embed)
app.command("submit")(submit)
app.command("backfill")(backfill)
app.command("train")(train)
app.command("sample")(sample)
app.command("demo")(demo)
app.add_typer(serve.app, name="serve")
app.add_typer(keys, name="keys")
app.add_typer(jobs.app, name="jobs")
app.add_typer(quarantine.app, name="quarantine")


def _print_version(wanted: bool) -> None:
    if wanted:
        console.out.print(f"lakebed {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(  # handled by its callback
        False, "--version", callback=_print_version, is_eager=True, help="Print the version and stop."
    ),
) -> None:
    pass


def main() -> None:
    """Run the command line; a LakebedError ends as one line on standard error."""
    quiet_libraries()
    try:
        app()
    except LakebedError as error:
        console.err.print(f"[bold red]error:[/] {escape(str(error))}")
        sys.exit(exit_code(error))
    except KeyboardInterrupt:
        console.err.print("stopped")
        sys.exit(130)


def quiet_libraries() -> None:
    """Keep Ray and tokenizers from phoning home and from chatting; the user's own settings win."""
    for name, value in (
        ("RAY_USAGE_STATS_ENABLED", "0"),
        ("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0"),
        ("TOKENIZERS_PARALLELISM", "false"),
        ("HF_HUB_DISABLE_TELEMETRY", "1"),
        ("LANCE_LOG", "error"),  # warns of every part that is staged before the first commit
        ("OMP_WAIT_POLICY", "PASSIVE"),  # spinning threads starve the others of a busy machine
    ):
        os.environ.setdefault(name, value)
