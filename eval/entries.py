"""What an entry of a suite means: the source of its data sets, and the task that measures them."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from lakebed.eval.sources.anomalies import Anomalies
from lakebed.eval.sources.archive import Archive
from lakebed.eval.sources.generated import LevelPairs, Pairs
from lakebed.eval.sources.human_captions import HumanCaptions
from lakebed.eval.sources.judged_documents import JudgedDocuments
from lakebed.eval.sources.labelled_pairs import LabelledPairs
from lakebed.eval.sources.labelled_table import LabelledRows
from lakebed.eval.sources.named_classes import NamedClasses
from lakebed.eval.sources.perturbed import Perturbed
from lakebed.eval.sources.protocol import Source
from lakebed.eval.sources.sentence_pairs import SentencePairs
from lakebed.eval.subject import registered_model
from lakebed.eval.tasks.anomaly import AnomalyTask
from lakebed.eval.tasks.classification import ClassificationTask
from lakebed.eval.tasks.clustering import ClusteringTask
from lakebed.eval.tasks.consistency import ConsistencyTask
from lakebed.eval.tasks.cost import CostTask
from lakebed.eval.tasks.cross_modal import CrossModalTask
from lakebed.eval.tasks.geometry import GeometryTask
from lakebed.eval.tasks.level import LevelTask
from lakebed.eval.tasks.matryoshka import MatryoshkaTask
from lakebed.eval.tasks.pair_classification import PairClassificationTask
from lakebed.eval.tasks.protocol import Task
from lakebed.eval.tasks.regression import RegressionTask
from lakebed.eval.tasks.retrieval import RetrievalTask
from lakebed.eval.tasks.robustness import RobustnessTask
from lakebed.eval.tasks.signal_retrieval import SignalRetrievalTask
from lakebed.eval.tasks.sts import StsTask
from lakebed.eval.tasks.zero_shot import ZeroShotTask
from lakebed.platform.config.entries.anomaly import Anomaly
from lakebed.platform.config.entries.classification import Classification
from lakebed.platform.config.entries.clustering import Clustering
from lakebed.platform.config.entries.consistency import Consistency
from lakebed.platform.config.entries.cost import Cost
from lakebed.platform.config.entries.cross_modal import CrossModal
from lakebed.platform.config.entries.geometry import Geometry
from lakebed.platform.config.entries.labelled import Labelled
from lakebed.platform.config.entries.level import Level
from lakebed.platform.config.entries.matryoshka import Matryoshka
from lakebed.platform.config.entries.pair_classification import PairClassification
from lakebed.platform.config.entries.regression import Regression
from lakebed.platform.config.entries.retrieval import Retrieval
from lakebed.platform.config.entries.robustness import Robustness
from lakebed.platform.config.entries.signal_retrieval import SignalRetrieval
from lakebed.platform.config.entries.sts import Sts
from lakebed.platform.config.entries.zero_shot import ZeroShot
from lakebed.platform.config.suite import Entry

_Source = Callable[[Any], Source]
_Task = Callable[[Any], Task]


def _captioned(entry: CrossModal) -> Source:
    return Pairs(entry) if entry.is_generated else HumanCaptions(entry)


def _labelled(entry: Labelled) -> Source:
    return LabelledRows(entry) if entry.source == "table" else Archive(entry)


def _consistency(entry: Consistency) -> Task:
    """The task, with what it compares with resolved here: a reference may move, and workers have no registry."""
    served, baseline = (
        None if one is None else registered_model(one).pack() for one in (entry.served, entry.baseline)
    )
    return ConsistencyTask(entry.alone, entry.batch_rows, entry.neighbours, served, baseline)


_MEANINGS: Final[Mapping[type, tuple[_Source, _Task]]] = {
    Anomaly: (
        Anomalies,
        lambda entry: AnomalyTask(entry.window, entry.stride, entry.neighbours, entry.buffer),
    ),
    Classification: (
        _labelled,
        lambda entry: ClassificationTask(entry.linear_probe, entry.neighbours, entry.few_shot),
    ),
    Clustering: (_labelled, lambda entry: ClusteringTask(entry.kmeans)),
    Consistency: (lambda entry: Pairs(entry.pairs), _consistency),
    Cost: (lambda entry: Pairs(entry.pairs), lambda entry: CostTask(entry.repeats, entry.alone)),
    CrossModal: (_captioned, lambda _: CrossModalTask()),
    Geometry: (lambda entry: Pairs(entry.pairs), lambda _: GeometryTask()),
    Level: (LevelPairs, lambda _: LevelTask()),
    PairClassification: (LabelledPairs, lambda _: PairClassificationTask()),
    Regression: (_labelled, lambda entry: RegressionTask(entry.ridge)),
    Retrieval: (JudgedDocuments, lambda _: RetrievalTask()),
    SignalRetrieval: (_labelled, lambda _: SignalRetrievalTask()),
    Matryoshka: (
        lambda entry: Archive(entry.labelled),
        lambda entry: MatryoshkaTask(ClassificationTask(entry.linear_probe, entry.neighbours), entry.lengths),
    ),
    Robustness: (
        Perturbed,
        lambda entry: RobustnessTask(ClassificationTask(entry.linear_probe, entry.neighbours), entry.perturbed_by),
    ),
    Sts: (SentencePairs, lambda _: StsTask()),
    ZeroShot: (NamedClasses, lambda entry: ZeroShotTask(entry.templates)),
}


def source_of(entry: Entry) -> Source:
    """Where the entry's data sets come from; nothing is read yet."""
    return _MEANINGS[type(entry)][0](entry)


def task_of(entry: Entry) -> Task:
    """What measures them."""
    return _MEANINGS[type(entry)][1](entry)
