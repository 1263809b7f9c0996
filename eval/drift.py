"""Drift: do the vectors of a table differ between two of its versions, and in which way?

Two tests on seeded samples of both versions (maximum mean discrepancy, and a classifier that tries to tell them
apart), and what every row says: norms, duplicates, rows added, removed and changed. Rows that both versions have
make the samples alike, so that in a table that only grows a shift of the new rows shows best with `only_new`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from matplotlib.figure import Figure

from lakebed.eval.embedded_table import CONTENT, EmbeddedRows, model_digests, read_rows
from lakebed.eval.two_samples import classifier_test, far_share, mmd
from lakebed.platform.config.storage import TableConfig
from lakebed.platform.errors import ConfigError, EmptyTableError
from lakebed.platform.items import FloatArray
from lakebed.platform.lake.fragments import Snapshot
from lakebed.platform.lake.tables import open_table
from lakebed.platform.machine import code_version
from lakebed.platform.tracking import DatasetRef, Tracking

EXPERIMENT: Final = "lakebed-drift"
SAMPLE: Final = 1000
PERMUTATIONS: Final = 1000
FEWEST: Final = 20
_NORM_QUANTILES: Final = (0.01, 0.5, 0.99)


@dataclass(frozen=True)
class Changes:
    """Rows by key: only in the current version, only in the baseline, in both with another vector, and equal."""

    added: int
    removed: int
    changed: int
    same: int


@dataclass(frozen=True, eq=False)
class Drift:
    """What was found; `p` is the smaller of the two tests' p-values, doubled, since two were asked."""

    uri: str
    baseline: EmbeddedRows
    current: EmbeddedRows
    figures: Mapping[str, float]
    changes: Changes | None
    own_distances: FloatArray
    distances: FloatArray
    notes: tuple[str, ...]

    @property
    def p(self) -> float:
        """p-value of no drift."""
        return self.figures["p"]


def find_drift(
    table: TableConfig,
    baseline: int,
    *,
    column: str = "embedding",
    keys: Sequence[str] = (),
    digest: str | None = None,
    sample: int = SAMPLE,
    permutations: int = PERMUTATIONS,
    only_new: bool = False,
    seed: int = 0,
) -> Drift:
    """Compare `table` (at its version) with its version `baseline`; at most `sample` rows of each are tested.

    `only_new` tests only rows whose vector the baseline lacks. Raises TableNotFoundError for an unknown version,
    ConfigError for what cannot be compared, EmptyTableError for too few rows.
    """
    now, before = open_table(table), open_table(table.model_copy(update={"version": baseline}))
    if now.version == before.version:
        raise ConfigError(
            f"{table.uri}: version {before.version} is both", hint="name an older one as the baseline"
        )
    model = _shared_model(before, now, digest)
    old = read_rows(before, column, keys, model, sample, seed)
    new = read_rows(now, column, keys, model, sample, seed + 1, only_new=old if only_new else None)
    _check(table.uri, old, new, only_new)
    tested = {"mmd": mmd(old.sample, new.sample, permutations=permutations, seed=seed)}
    tested["classifier"] = classifier_test(old.sample, new.sample, seed=seed)
    far, own, distances = far_share(old.sample, new.sample)
    changes, notes = _changes(old, new)
    figures = {
        "p": min(1.0, 2 * min(one.p for one in tested.values())),
        "mmd2": tested["mmd"].statistic,
        "mmd_p": tested["mmd"].p,
        "classifier_accuracy": tested["classifier"].statistic,
        "classifier_p": tested["classifier"].p,
        "far_share": far,
        **_of_rows("baseline", old),
        **_of_rows("current", new),
        "vectors_new_share": float(new.beyond(old).mean()),
    }
    if changes:
        figures |= {f"rows_{name}": float(count) for name, count in vars(changes).items()}
    return Drift(table.uri, old, new, figures, changes, own, distances, notes)


def record(drift: Drift, tracking: Tracking, parameters: Mapping[str, object]) -> str:
    """Log it as a run of experiment `lakebed-drift`, both versions being its inputs; returns the run's id."""
    versions = f"{drift.baseline.version} to {drift.current.version}"
    tags = {"lakebed.table": drift.uri[:5000], "lakebed.baseline": drift.baseline.version}
    with tracking.run(EXPERIMENT, f"{drift.uri[-180:]}: {versions}", tags) as run:
        run.params({**parameters, "table": drift.uri, "versions": versions, "code": code_version()})
        for rows, role in ((drift.baseline, "baseline"), (drift.current, "current")):
            run.dataset(_reference(drift.uri, rows), role)
        run.metrics(drift.figures)
        run.figure(plot(drift), "drift.png")
    return run.id


def plot(drift: Drift) -> Figure:
    """Both samples on the baseline's first two principal components, and distances to the baseline."""
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    centre = drift.baseline.sample.mean(axis=0)
    _, _, axes = np.linalg.svd(drift.baseline.sample - centre, full_matrices=False)
    for rows, name, colour in (
        (drift.baseline, "baseline", "tab:blue"),
        (drift.current, "current", "tab:orange"),
    ):
        places = (rows.sample - centre) @ axes[:2].T
        places = np.pad(places, ((0, 0), (0, 2 - places.shape[1])))
        label = f"{name}, version {rows.version}"
        left.scatter(places[:, 0], places[:, 1], s=8, alpha=0.5, color=colour, label=label, linewidths=0)
    left.set_title("Samples, principal components of the baseline")
    left.legend()
    ends = np.histogram_bin_edges(np.concatenate([drift.own_distances, drift.distances]), bins=40)
    right.hist(drift.own_distances, ends, density=True, alpha=0.6, color="tab:blue", label="baseline")
    right.hist(drift.distances, ends, density=True, alpha=0.6, color="tab:orange", label="current")
    right.axvline(float(np.quantile(drift.own_distances, 0.99)), color="black", linestyle=":")
    right.set_title(
        f"Distance to the fifth nearest baseline vector\nbeyond the line: {drift.figures['far_share']:.1%}"
    )
    right.legend()
    return figure


def _shared_model(before: Snapshot, now: Snapshot, digest: str | None) -> str | None:
    """The one model whose vectors both versions hold; None where the table does not say."""
    old, new = model_digests(before), model_digests(now)
    if not old and not new and digest is None:
        return None
    shared = old & new
    if digest is not None:
        found = {one for one in shared if one.startswith(digest)}
        if len(found) != 1:
            raise ConfigError(f"{now.uri}: {len(found)} models in both versions begin with {digest!r}")
        return found.pop()
    if not shared:
        raise ConfigError(
            f"{now.uri}: versions {before.version} and {now.version} hold vectors of different models",
            hint="vectors of two models cannot be compared; choose a baseline of the same model",
        )
    if len(shared) > 1:
        names = ", ".join(sorted(one[:12] for one in shared))
        raise ConfigError(
            f"{now.uri}: vectors of several models are there: {names}", hint="name one with --digest"
        )
    return shared.pop()


def _check(uri: str, old: EmbeddedRows, new: EmbeddedRows, only_new: bool) -> None:
    for rows in (old, new):
        if len(rows.sample) < FEWEST:
            what = "new vectors" if only_new and rows is new else "vectors"
            raise EmptyTableError(
                f"{uri} version {rows.version}: {len(rows.sample)} {what}, too few to tell drift from chance",
                hint=f"{FEWEST} are the fewest",
            )
    if old.sample.shape[1] != new.sample.shape[1]:
        raise ConfigError(
            f"{uri}: vectors of {old.sample.shape[1]} dimensions in version {old.version}, "
            f"of {new.sample.shape[1]} in version {new.version}"
        )


def _of_rows(name: str, rows: EmbeddedRows) -> dict[str, float]:
    quantiles = np.quantile(rows.norms, _NORM_QUANTILES)
    norms = {
        f"norm_{level * 100:g}": float(value) for level, value in zip(_NORM_QUANTILES, quantiles, strict=True)
    }
    found = {
        "rows": float(rows.rows),
        "rows_without_vector": float(rows.without_vector),
        "duplicate_rate": rows.duplicate_rate,
        "norm_mean": float(rows.norms.mean()),
        "norm_sd": float(rows.norms.std()),
        **norms,
    }
    return {f"{name}_{key}": value for key, value in found.items() if math.isfinite(value)}


def _changes(old: EmbeddedRows, new: EmbeddedRows) -> tuple[Changes | None, tuple[str, ...]]:
    """By the user's keys, else by content keys, which tell no change from a removal and an addition."""
    if old.keys is not None and new.keys is not None:
        before, after = dict(zip(old.keys, old.hashes, strict=True)), dict(zip(new.keys, new.hashes, strict=True))
        notes = tuple(
            f"version {rows.version}: {rows.rows - len(known)} rows share a key with another"
            for rows, known in ((old, before), (new, after))
            if len(known) < rows.rows
        )
        both = before.keys() & after.keys()
        changed = sum(1 for key in both if before[key] != after[key])
        return Changes(len(after) - len(both), len(before) - len(both), changed, len(both) - changed), notes
    if old.contents is not None and new.contents is not None:
        first, second = set(old.contents), set(new.contents)
        note = (
            f"without --key, rows are told apart by their content ({CONTENT}): a changed row is removed and added"
        )
        return Changes(len(second - first), len(first - second), 0, len(first & second)), (note,)
    return None, (f"no --key and no column {CONTENT}: rows were not matched",)


def _reference(uri: str, rows: EmbeddedRows) -> DatasetRef:
    digest = f"{int(np.bitwise_xor.reduce(rows.hashes)):016x}-{rows.rows}"
    return DatasetRef(f"{uri[-400:]}@{rows.version}", digest[:36], uri, rows.rows, rows.version)
