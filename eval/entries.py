"""What an entry of a suite means: the source of its data sets, and the task that measures them."""

from lakebed.eval.sources.archive import Archive
from lakebed.eval.sources.generated import LevelPairs, Pairs
from lakebed.eval.sources.human_captions import HumanCaptions
from lakebed.eval.sources.named_classes import NamedClasses
from lakebed.eval.sources.protocol import Source
from lakebed.eval.sources.sentence_pairs import SentencePairs
from lakebed.eval.tasks.classification import ClassificationTask
from lakebed.eval.tasks.cross_modal import CrossModalTask
from lakebed.eval.tasks.level import LevelTask
from lakebed.eval.tasks.protocol import Task
from lakebed.eval.tasks.sts import StsTask
from lakebed.eval.tasks.zero_shot import ZeroShotTask
from lakebed.platform.config.suite import Classification, CrossModal, Entry, Level, Sts


def source_of(entry: Entry) -> Source:
    """Where the entry's data sets come from; nothing is read yet."""
    if isinstance(entry, Classification):
        return Archive(entry)
    if isinstance(entry, CrossModal):
        return Pairs(entry) if entry.is_generated else HumanCaptions(entry)
    if isinstance(entry, Level):
        return LevelPairs(entry)
    return SentencePairs(entry) if isinstance(entry, Sts) else NamedClasses(entry)


def task_of(entry: Entry) -> Task:
    """What measures them."""
    if isinstance(entry, Classification):
        return ClassificationTask(entry.linear_probe, entry.neighbours)
    if isinstance(entry, CrossModal):
        return CrossModalTask()
    if isinstance(entry, Level):
        return LevelTask()
    return StsTask() if isinstance(entry, Sts) else ZeroShotTask(entry.templates)
