"""`lakebed models` and `register`: the versions of a model."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from lakebed.cli import console
from lakebed.cli.evaluate import stores

if TYPE_CHECKING:
    from rich.table import Table

    from lakebed.platform.registry import ModelVersion, Registry
    from lakebed.platform.tracking import Tracking


def models(
    name: str | None = typer.Argument(None, help="Only this model's versions."),
    suite: str = typer.Option("smoke", "--suite", "-s", help="With --html: the suite that is charted."),
    html_file: Path | None = typer.Option(
        None,
        "--html",
        help="Chart the headline scores of all versions of NAME, against the champion, to this file.",
    ),
) -> None:
    """List registered versions with alias, digest, age and headline scores."""
    from lakebed.platform.encoder.artifact import read_artifact
    from lakebed.platform.encoder.load import DEFAULT_MODEL, packaged_model

    registry, tracking = stores()
    if html_file:
        _chart(name, suite, html_file, registry, tracking)
        return
    names = [name] if name else registry.names()
    versions = [version for one in names for version in registry.versions(one)]
    if versions:
        console.out.print(_version_table(versions))
    if DEFAULT_MODEL not in names and name is None:
        digest = read_artifact(packaged_model()).digest
        console.out.print(f"{DEFAULT_MODEL}, digest {digest[:12]}: ships with lakebed, not registered")
        console.err.print(f"`lakebed register {DEFAULT_MODEL}` makes it version 1, with an alias and scores")


def register(
    model: str = typer.Argument(help="A model directory, or lakebed-embed for the model that ships."),
    name: str | None = typer.Option(None, "--name", "-n", help="Name; by default the one in the model's config."),
    alias: str | None = typer.Option(None, "--alias", help="Alias to point at the version, such as candidate."),
) -> None:
    """Make a model directory a version in the registry; the same files again are the same version."""
    from lakebed.eval.record import mirror
    from lakebed.platform.encoder.load import resolve_model
    from lakebed.platform.errors import ConfigError

    found = resolve_model(model)
    if found.kind != "artifact":
        raise ConfigError(
            f"{model}: only a model directory can be registered", hint="make one with `lakebed train`"
        )
    registry, tracking = stores()
    version = registry.register(Path(found.target), name or found.name, alias=alias)
    mirror(version, tracking, registry)
    console.out.print(f"{version.reference}, digest {version.digest[:12]}{_aliases(version)}")


def _chart(name: str | None, suite: str, path: Path, registry: "Registry", tracking: "Tracking") -> None:
    from lakebed.eval.report import write_html
    from lakebed.eval.versions import history_report, version_history

    if name is None:
        raise typer.BadParameter("a chart is of one model: name it", param_hint="NAME")
    history = version_history(name, registry.versions(name), tracking, suite)
    for note in history.notes:
        console.err.print(f"note: {note}", markup=False)
    write_html(path, history_report(history))
    console.out.print(f"{len(history.measured)} versions of {name} on {history.suite} in {path}", markup=False)


def _version_table(versions: "list[ModelVersion]") -> "Table":
    from rich.table import Table

    table = Table()
    widest = max(len(name) for version in versions for name in (version.reference, *version.aliases))
    table.add_column("version", min_width=widest, overflow="fold")
    table.add_column("digest, made", min_width=12)
    table.add_column("scores")
    for version in versions:
        scores = [_score(key, value) for key, value in sorted(version.tags.items()) if "/mean/" in key]
        table.add_row(
            "\n".join((version.reference, *version.aliases)),
            f"{version.digest[:12]}\n{version.created:%Y-%m-%d}",
            "\n".join(scores),
        )
    return table


def _score(key: str, value: str) -> str:
    """`smoke/mean/classification/knn_accuracy` as people read it: value, metric, suite."""
    suite, _, figure = key.partition("/mean/")
    return f"{value} {figure.rpartition('/')[2]} ({suite})"


def _aliases(version: "ModelVersion") -> str:
    return f", {', '.join(version.aliases)}" if version.aliases else ""
