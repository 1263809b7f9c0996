"""`lakebed eval sync` and `lakebed eval cache`: what evaluations have left on this machine."""

import typer

from lakebed.cli import console
from lakebed.cli.evaluate import stores


def sync() -> None:
    """Log evaluations that were kept while no MLflow server answered, each as one run."""
    from lakebed.eval.record import upload_kept

    registry, tracking = stores()
    count = 0
    for name, run_id in upload_kept(tracking, registry):
        console.out.print(f"{name}: MLflow run {run_id}", markup=False)
        count += 1
    if not count:
        console.err.print("nothing waits to be logged")


def cache(
    clear: bool = typer.Option(False, "--clear", help="Remove them; what waits to be logged stays."),
) -> None:
    """Show how much room vectors and results of earlier evaluations take, or remove them."""
    from lakebed.eval.record import kept

    found = kept()
    for name, (files, size) in found.sizes().items():
        console.out.print(f"{name}: {files:,} files, {size / 2**20:,.1f} MiB in {found.home / name}", markup=False)
    if clear:
        found.clear()
        console.err.print("cleared")
