"""`lakebed sample`: a small real table to try things on."""

from typing import Annotated

import typer

from lakebed.cli import console


def sample(
    table: Annotated[str, typer.Argument(help="Delta table to write: a folder, or s3://bucket/path.")],
) -> None:
    """Write real sensor recordings with words as a Delta table, to try the other commands on.

    Motion, gestures, home appliances and speech that the installed aeon package bundles: id, recording, label,
    note and series (channels x samples). Two rows are damaged on purpose. Writing again makes a new version.
    """
    from lakebed.eval.sample_table import write_sample_table

    rows = write_sample_table(table)
    console.out.print(f"{table}: {rows} recordings")
