"""One evaluation as one MLflow run: one run per model version, truncation and suite.

What can go wrong by mistake (a missing folder, a server that is away) is checked before a run is begun; the run is
FINISHED only when all of it is stored. Headline scores are copied to the model version from finished runs only.
"""

import hashlib
import json
from dataclasses import dataclass
from typing import Final

from lakebed.eval import figures
from lakebed.eval.entries import source_of
from lakebed.eval.leakage import checked_for_leakage
from lakebed.eval.run import Evaluation, Progress, evaluate
from lakebed.eval.subject import DIMENSIONS, FULL_LENGTH, MODEL_DIGEST, Subject
from lakebed.platform.config.suite import Suite
from lakebed.platform.encoder.load import Device
from lakebed.platform.encoder.protocol import check_dimensions
from lakebed.platform.machine import code_version, machine
from lakebed.platform.registry import ModelVersion, Registry
from lakebed.platform.tracking import Run, Tracking

EXPERIMENT: Final = "lakebed-eval"
SUITE: Final = "lakebed.suite"
DATA: Final = "lakebed.data"
HEADLINES: Final = "lakebed.headlines"
WHOLE: Final = "lakebed.whole_suite"
SUBJECT: Final = "lakebed.subject"
EXAMPLES: Final = "scores.parquet"
DATA_PARAM: Final = "data."
TASK_PARAM: Final = "task."


@dataclass(frozen=True, eq=False)
class Recorded:
    """An evaluation and the run it was logged as."""

    evaluation: Evaluation
    run_id: str


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
    progress: Progress = lambda *_: None,
) -> Recorded:
    """Run a suite on a subject and log it; `label` names suite and data folder.

    `whole` says that the suite was not cut down by options: only then do the scores go to the model version.
    """
    for entry in suite.entries:
        source_of(entry).names()
    tracking.check()
    encoder = subject.model.load(device)
    check_dimensions(encoder.info, suite.dimensions)
    tags = {**subject.tags, SUITE: label, SUBJECT: subject.label}
    with tracking.run(EXPERIMENT, f"{subject.label} on {label}", tags) as run:
        evaluation = evaluate(encoder, suite, limit=limit, progress=progress)
        evaluation = checked_for_leakage(evaluation, subject.model.trained_on())
        _log_identity(run, subject, evaluation)
        _log_scores(run, subject, evaluation)
        _log_figures(run, evaluation)
        run.tags(
            {
                DATA: data_digest(evaluation),
                HEADLINES: json.dumps(list(evaluation.headlines())),
                WHOLE: str(whole and limit is None).lower(),
            }
        )
    if subject.version:
        mirror(subject.version, tracking, registry)
    return Recorded(evaluation, run.id)


def data_digest(evaluation: Evaluation) -> str:
    """One digest of all data that an evaluation used, whatever the order."""
    digests = sorted({one.data.digest for one in evaluation.measured})
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()[:32]


def _log_identity(run: Run, subject: Subject, evaluation: Evaluation) -> None:
    """Everything a score depends on: model, data, probes, code; and the machine, on which only costs depend."""
    run.params(
        {
            "model": subject.label,
            "model.digest": subject.digest,
            "model.dimensions": subject.dimensions or "full",
            "suite": evaluation.suite.model_dump(mode="json"),
            "code": code_version(),
            **{f"{TASK_PARAM}{one.task.name}": one.task.configuration for one in evaluation.measured},
            **{f"{DATA_PARAM}{one.data.name}": one.data.digest for one in evaluation.measured},
            **{f"machine.{key}": value for key, value in machine().items()},
        }
    )
    for one in evaluation.measured:
        run.dataset(one.data.reference, "evaluation")
    if subject.version and subject.version.model_id:
        run.model(subject.version.model_id)


def _log_scores(run: Run, subject: Subject, evaluation: Evaluation) -> None:
    # MLflow keeps one value per key and logged model: a truncation's scores would replace the full length's.
    model_id = subject.version.model_id if subject.version and subject.dimensions is None else None
    for one in evaluation.measured:
        prefix = f"{one.data.name}/{one.task.name}"
        values = {f"{prefix}/{metric}": value for metric, value in one.result.figures.items()}
        details = {f"details/{prefix}/{name}": value for name, value in one.result.details.items()}
        run.metrics(values, dataset=one.data.reference, model_id=model_id)
        if one.data.filled:
            details[f"details/{prefix}/filled_values"] = one.data.filled
        run.metrics(details)
    run.metrics(evaluation.overall(), model_id=model_id)
    run.table(evaluation.examples(), EXAMPLES)
    run.text(json.dumps(evaluation.figures(), indent=2), "figures.json")


def _log_figures(run: Run, evaluation: Evaluation) -> None:
    for name, figure in figures.all_of(evaluation.measured).items():
        run.figure(figure, f"figures/{name}.png")


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
