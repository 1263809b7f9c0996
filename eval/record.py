"""One evaluation as one MLflow run: one run per model version, truncation and suite.

What can go wrong by mistake (a missing folder, dimensions that the model has not) is checked before anything is
embedded. A run is begun only when all that it will hold is there (`package.py`), so it is FINISHED whole or not at
all; when no server answers, the evaluation is kept and `upload_kept` logs it later. Headline scores are copied to
the model version from finished runs only. The same model, data, probes and code are not measured twice.
"""

import hashlib
import json
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyarrow.parquet as pq

from lakebed.eval import figures
from lakebed.eval.durable import clear_folder, size_of_folder, trim_folder
from lakebed.eval.entries import source_of
from lakebed.eval.identity import run_key, task_key, vectors_key
from lakebed.eval.kept_results import KeptResults
from lakebed.eval.leakage import checked_for_leakage
from lakebed.eval.package import MetricsOf, Outbox, Package
from lakebed.eval.progress import Silent, Watcher
from lakebed.eval.run import Evaluation, Measured, SuitePart, evaluate_at, plan_of
from lakebed.eval.schedule import Stores
from lakebed.eval.subject import DIMENSIONS, FULL_LENGTH, MODEL_DIGEST, Subject
from lakebed.eval.tasks.protocol import TaskResult, is_lasting
from lakebed.eval.vector_files import VectorFiles
from lakebed.eval.workplace import InProcess, Workplace
from lakebed.platform.config.cluster import ClusterConfig
from lakebed.platform.config.environment import read_environment
from lakebed.platform.config.suite import Suite
from lakebed.platform.encoder.load import Device
from lakebed.platform.encoder.protocol import check_dimensions
from lakebed.platform.errors import ConfigError, LakebedError, UnreachableError
from lakebed.platform.machine import code_version, machine
from lakebed.platform.registry import ModelVersion, Registry
from lakebed.platform.tracking import RunRecord, Tracking

EXPERIMENT: Final = "lakebed-eval"
SUITE: Final = "lakebed.suite"
DATA: Final = "lakebed.data"
HEADLINES: Final = "lakebed.headlines"
WHOLE: Final = "lakebed.whole_suite"
SUBJECT: Final = "lakebed.subject"
IDENTITY: Final = "lakebed.identity"
EXAMPLES: Final = "scores.parquet"
DATA_PARAM: Final = "data."
TASK_PARAM: Final = "task."
_DETAILS: Final = "details/"
_SPARES_WORK: Final = ("vectors", "results")


@dataclass(frozen=True)
class Running:
    """How an evaluation is run. Without workers and address: in this process, on all its cores.

    `cache` says whether vectors and results on disk are used and kept, `again` that all scores are measured anew.
    """

    workers: int | None = None
    address: str | None = None
    cache: bool = True
    again: bool = False

    @property
    def on_ray(self) -> bool:
        """Whether Ray is asked for."""
        return self.workers is not None or self.address is not None


@dataclass(frozen=True)
class Kept:
    """What lies under LAKEBED_HOME/eval: vectors and results that spare work, and evaluations to be logged."""

    home: Path

    @property
    def vectors(self) -> VectorFiles:
        """Vectors by model and chunk."""
        return VectorFiles(self.home / "vectors")

    @property
    def results(self) -> KeptResults:
        """Results by what they depend on."""
        return KeptResults(self.home / "results")

    @property
    def outbox(self) -> Outbox:
        """Evaluations that no server has yet."""
        return Outbox(self.home / "unlogged")

    def sizes(self) -> dict[str, tuple[int, int]]:
        """Files and bytes of what spares work."""
        return {name: size_of_folder(self.home / name) for name in _SPARES_WORK}

    def clear(self) -> None:
        """Remove what spares work; evaluations that wait to be logged stay."""
        for name in _SPARES_WORK:
            clear_folder(self.home / name)

    def trim(self, most: int) -> None:
        """Remove of each kind what was used longest ago, until it takes at most so many bytes."""
        for name in _SPARES_WORK:
            trim_folder(self.home / name, most)


def kept() -> Kept:
    """What is kept on this machine."""
    return Kept(read_environment().home.absolute() / "eval")


@dataclass(frozen=True, eq=False)
class Recorded:
    """An evaluation and the run it was logged as; `waits_in` is its folder when no server answered.

    `earlier` says that the run is one from before, of the same identity: nothing was measured now, and costs are
    of then.
    """

    evaluation: Evaluation
    run_id: str | None
    waits_in: Path | None = None
    earlier: RunRecord | None = None

    @property
    def figures(self) -> dict[str, float]:
        """All flat numbers; those of an earlier run as it logged them."""
        if self.earlier is None:
            return self.evaluation.figures()
        return {key: value for key, value in self.earlier.metrics.items() if not key.startswith(_DETAILS)}


def evaluate_and_record(
    subject: Subject,
    suite: Suite,
    *,
    label: str,
    tracking: Tracking,
    registry: Registry,
    device: Device = "auto",
    limit: int | None = None,
    whole: bool = True,
    progress: Watcher | None = None,
    running: Running | None = None,
) -> Recorded:
    """Run a suite on a subject and log it; `label` names suite and data folder.

    `whole` says that the suite was not cut down by options: only then do the scores go to the model version. What
    was measured before under the same identity is returned as it was logged, unless `running.again` or a task's
    scores are another day's.
    """
    running = running or Running()
    for entry in suite.entries:
        source_of(entry).names()
    parts = plan_of(suite, limit)
    counts = whole and limit is None
    keys = _keys(subject, suite, parts)
    identity = run_key(keys.values(), {"label": label, "whole": counts}) if keys else None
    lasts = all(is_lasting(part.task) for part in parts)
    if identity and lasts and not running.again and (found := _earlier(tracking, identity)):
        return Recorded(_as_logged(suite, parts, found), found.id, earlier=found)
    with _place(subject, device, running) as place:
        check_dimensions(place.info, suite.dimensions)
        evaluation = evaluate_at(
            place,
            suite,
            parts,
            keys=keys,
            stores=_stores(subject, device, running),
            progress=progress or Silent(),
        )
    if running.cache:
        kept().trim(int(read_environment().eval_cache_gib * 2**30))
    evaluation = checked_for_leakage(evaluation, subject.model.trained_on())
    name = identity if lasts and not running.again else None
    package = package_of(subject, label, evaluation, whole=counts, identity=identity)
    return record(evaluation, package, tracking, registry, name=name)


def record(
    evaluation: Evaluation, package: Package, tracking: Tracking, registry: Registry, *, name: str | None = None
) -> Recorded:
    """Log an evaluation, or keep it for later when no server answers; the same name again is the same run."""
    name = name or uuid.uuid4().hex
    with tempfile.TemporaryDirectory() as folder:
        _write_files(evaluation, Path(folder))
        waiting = kept().outbox.put(name, package, Path(folder))
    try:
        return Recorded(evaluation, _logged(waiting, tracking, registry))
    except UnreachableError:
        return Recorded(evaluation, None, waits_in=waiting)


def upload_kept(tracking: Tracking, registry: Registry) -> Iterator[tuple[str, str]]:
    """Log every evaluation that waits; yields name and run id. Raises UnreachableError if no server answers.

    One that cannot be read or is refused holds up no other: its error comes when all were tried.
    """
    refused: LakebedError | None = None
    for folder in kept().outbox.waiting():
        try:
            logged = Package.read(folder).name, _logged(folder, tracking, registry)
        except UnreachableError:
            raise
        except LakebedError as error:
            refused = refused or error
        else:
            yield logged
    if refused:
        raise refused


def data_digest(evaluation: Evaluation) -> str:
    """One digest of all data that an evaluation used, whatever the order."""
    digests = sorted({one.data.digest for one in evaluation.measured})
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()[:32]


def _keys(subject: Subject, suite: Suite, parts: Sequence[SuitePart]) -> dict[int, str]:
    """What each part's scores depend on, by position; nothing for a model whose code no digest covers."""
    if not subject.is_identified:
        return {}
    return {
        number: task_key(subject.digest, suite.dimensions, part.data, part.task, part.entry.dimensions)
        for number, part in enumerate(parts)
    }


@contextmanager
def _place(subject: Subject, device: Device, running: Running) -> Iterator[Workplace]:
    """Load the model, here or on Ray."""
    if not running.on_ray:
        with InProcess(subject.model.load(device)) as here:
            yield here
        return
    if subject.model.kind == "remote":
        raise ConfigError(
            "a served model is measured from this process, with several requests at once",
            hint="leave --workers and --address out",
        )
    from lakebed.eval.on_ray import OnRay
    from lakebed.platform.cluster import connected

    with connected(ClusterConfig(address=running.address)), OnRay(subject.model, device, running.workers) as there:
        yield there


def _stores(subject: Subject, device: Device, running: Running) -> Stores:
    if not running.cache or not subject.is_identified:
        return Stores()
    model = vectors_key(subject.digest, device, running.address or "this machine")
    return Stores(model, kept().vectors, kept().results, running.again)


def _earlier(tracking: Tracking, identity: str) -> RunRecord | None:
    """The run that was logged under an identity, as far as a server tells now."""
    try:
        return tracking.latest(EXPERIMENT, {IDENTITY: identity})
    except UnreachableError:
        return None


def _as_logged(suite: Suite, parts: Sequence[SuitePart], run: RunRecord) -> Evaluation:
    """An evaluation as a run tells it: figures without examples and vectors."""
    measured = [
        Measured(part.data, part.task, _result_of(part, run), {}, part.entry.in_halves, kept=True)
        for part in parts
    ]
    there = [one for one in measured if one.result.metrics]
    return Evaluation(suite, there, sum(one.data.rows for one in there), {})


def _result_of(part: SuitePart, run: RunRecord) -> TaskResult:
    prefix = f"{part.data.name}/{part.task.name}/"
    values = {key.removeprefix(prefix): value for key, value in run.metrics.items() if key.startswith(prefix)}
    chance = {name for name in values if name.startswith("chance_") or name.endswith("_chance")}
    return TaskResult(
        {name: value for name, value in values.items() if name not in chance},
        [],
        chance={name: values[name] for name in chance},
    )


def package_of(
    subject: Subject, label: str, evaluation: Evaluation, *, whole: bool, identity: str | None = None
) -> Package:
    """All that an evaluation's run holds, files aside."""
    tags = {
        **subject.tags,
        SUITE: label,
        SUBJECT: subject.label,
        DATA: data_digest(evaluation),
        HEADLINES: json.dumps(list(evaluation.headlines())),
        WHOLE: str(whole).lower(),
        **({IDENTITY: identity} if identity else {}),
    }
    return Package(
        f"{subject.label} on {label}",
        subject.model.name,
        subject.digest,
        tags,
        _identity(subject, evaluation),
        [one.data.reference for one in evaluation.measured],
        list(_scores(subject, evaluation)),
    )


def _identity(subject: Subject, evaluation: Evaluation) -> dict[str, object]:
    """Everything a score depends on: model, data, probes, code; and the machine, on which only costs depend."""
    return {
        "model": subject.label,
        "model.digest": subject.digest,
        "model.dimensions": subject.dimensions or "full",
        "suite": evaluation.suite.model_dump(mode="json"),
        "code": code_version(),
        **{f"{TASK_PARAM}{one.task.name}": one.task.configuration for one in evaluation.measured},
        **{f"{DATA_PARAM}{one.data.name}": one.data.digest for one in evaluation.measured},
        **{f"machine.{key}": value for key, value in machine().items()},
    }


def _scores(subject: Subject, evaluation: Evaluation) -> Iterator[MetricsOf]:
    # MLflow keeps one value per key and logged model: a truncation's scores would replace the full length's.
    of_model = subject.dimensions is None
    for number, one in enumerate(evaluation.measured):
        prefix = f"{one.data.name}/{one.task.name}"
        values = {f"{prefix}/{metric}": float(value) for metric, value in one.result.figures.items()}
        details = {f"{_DETAILS}{prefix}/{name}": float(value) for name, value in one.result.details.items()}
        yield MetricsOf(values, number, of_model)
        if one.data.filled:
            details[f"{_DETAILS}{prefix}/filled_values"] = one.data.filled
        yield MetricsOf(details)
    yield MetricsOf(evaluation.overall(), None, of_model)


def _write_files(evaluation: Evaluation, folder: Path) -> None:
    pq.write_table(evaluation.examples(), folder / EXAMPLES, compression="zstd")
    (folder / "figures.json").write_text(
        json.dumps(evaluation.figures(), indent=2, default=float), encoding="utf-8"
    )
    pictures = folder / "figures"
    pictures.mkdir()
    for name, figure in figures.all_of(evaluation.measured).items():
        figure.savefig(pictures / f"{name}.png", dpi=110, bbox_inches="tight")


def _logged(folder: Path, tracking: Tracking, registry: Registry) -> str:
    """Log a package that waits, copy its headline scores to the model version, and forget it."""
    package = Package.read(folder)
    tracking.check()
    version = _version_of(package, registry)
    run_id = package.log(tracking, EXPERIMENT, folder, version)
    if version:
        mirror(version, tracking, registry)
    kept().outbox.remove(folder)
    return run_id


def _version_of(package: Package, registry: Registry) -> ModelVersion | None:
    """The registered version with a package's digest, if there is one now."""
    if package.model not in registry.names():
        return None
    return next((one for one in registry.versions(package.model) if one.digest == package.digest), None)


def mirror(version: ModelVersion, tracking: Tracking, registry: Registry) -> None:
    """Copy headline scores to where MLflow's pages show them: the version's tags and its training run.

    Takes the newest whole run of each suite and length, so a model evaluated before it was registered has its
    scores too.
    """
    scores: dict[str, float] = {}
    for run in tracking.finished(EXPERIMENT, {MODEL_DIGEST: version.digest, WHOLE: "true"}):
        length = run.tags[DIMENSIONS]
        prefix = run.tags[SUITE] if length == FULL_LENGTH else f"{run.tags[SUITE]}:{length}"  # MLflow takes no #
        for key in json.loads(run.tags[HEADLINES]):
            scores.setdefault(f"{prefix}/{key}", run.metrics[key])
    registry.tag(version.name, version.version, {key: f"{value:.4f}" for key, value in scores.items()})
    if version.run_id and scores:
        tracking.add(version.run_id, scores)
