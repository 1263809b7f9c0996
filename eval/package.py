"""An evaluation as a folder: all that its MLflow run is to hold, so that it can be logged now or later, once.

Every evaluation is written as such a folder first and logged from it, so that a server which is away loses
nothing. The folder is renamed into its place when it is whole, and removed when its run is FINISHED. The run bears
the folder's name as a tag: what was logged by a process that was killed before it removed the folder is not logged
again.
"""

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from lakebed.platform.errors import ArtifactError, ConfigError
from lakebed.platform.registry import ModelVersion
from lakebed.platform.tracking import DatasetRef, Tracking

MANIFEST: Final = "run.json"
ARTIFACTS: Final = "artifacts"
PACKAGE: Final = "lakebed.package"
"""Tag of a run: the folder that it was logged from."""


@dataclass(frozen=True)
class MetricsOf:
    """Numbers, the position of the data set they speak of, and whether the logged model has them too."""

    values: Mapping[str, float]
    dataset: int | None = None
    of_model: bool = False


@dataclass(frozen=True)
class Package:
    """What a run holds, files aside. `model` and `digest` find the version that the scores belong to, if any."""

    name: str
    model: str
    digest: str
    tags: Mapping[str, str]
    params: Mapping[str, Any]
    datasets: Sequence[DatasetRef]
    metrics: Sequence[MetricsOf]

    @classmethod
    def read(cls, folder: Path) -> "Package":
        """Read a folder's manifest; raises ArtifactError when it is not one."""
        try:
            values = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
            datasets = [DatasetRef(**one) for one in values.pop("datasets")]
            metrics = [MetricsOf(**one) for one in values.pop("metrics")]
            return cls(datasets=datasets, metrics=metrics, **values)
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise ArtifactError(f"{folder}: not a kept evaluation: {error}") from None

    def log(self, tracking: Tracking, experiment: str, folder: Path, version: ModelVersion | None) -> str:
        """Log it as one run, FINISHED when all is stored; returns the run's id, also of one logged before."""
        tags = {PACKAGE: folder.name}
        before = tracking.latest(experiment, tags)
        if before is not None:
            return before.id
        model_id = version.model_id if version else None
        with tracking.run(experiment, self.name, {**self.tags, **tags}) as run:
            run.params(self.params)
            for one in self.datasets:
                run.dataset(one, "evaluation")
            if model_id:
                run.model(model_id)
            for metrics in self.metrics:
                dataset = None if metrics.dataset is None else self.datasets[metrics.dataset]
                run.metrics(metrics.values, dataset=dataset, model_id=model_id if metrics.of_model else None)
            run.artifact(folder / ARTIFACTS)
        return run.id


@dataclass(frozen=True)
class Outbox:
    """Evaluations under a folder that are not logged yet."""

    folder: Path

    def put(self, name: str, package: Package, artifacts: Path) -> Path:
        """Keep a package with its files; the same name again replaces it. Raises ConfigError when it cannot."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            partial = Path(tempfile.mkdtemp(dir=self.folder, prefix="partial-"))
            shutil.copytree(artifacts, partial / ARTIFACTS)
            (partial / MANIFEST).write_text(json.dumps(asdict(package), default=str), encoding="utf-8")
            return _moved(partial, self.folder / name)
        except OSError as error:
            raise ConfigError(f"{self.folder}: cannot be written: {error}", hint="see LAKEBED_HOME") from None

    def waiting(self) -> list[Path]:
        """Folders of whole packages, the oldest first."""
        found = [path for path in self.folder.glob("*") if (path / MANIFEST).is_file()]
        whole = [path for path in found if not path.name.startswith("partial-")]
        return sorted(whole, key=lambda path: (path / MANIFEST).stat().st_mtime)

    def remove(self, folder: Path) -> None:
        """Forget a package: the manifest goes first, so that half of a folder is never taken for a whole one."""
        (folder / MANIFEST).unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)


def _moved(folder: Path, place: Path) -> Path:
    """Rename a folder into its place; what another process puts there at the same moment is the same."""
    shutil.rmtree(place, ignore_errors=True)
    try:
        return folder.rename(place)
    except OSError:
        if not (place / MANIFEST).is_file():
            raise
    shutil.rmtree(folder, ignore_errors=True)
    return place
