"""Model versions in MLflow: register a model directory, resolve an alias or version, download and verify it.

A version is a safetensors directory logged as the artifacts of an MLflow LoggedModel: no MLmodel file, no flavour,
no pickle. Its digest is a tag of the version and is checked after every download. Does not know what a model
computes; the champion's alias is moved by whoever decides (`lakebed promote`).
"""

import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from lakebed.platform.config.environment import read_environment
from lakebed.platform.encoder.artifact import Artifact, files_of, read_artifact
from lakebed.platform.encoder.load import CHAMPION
from lakebed.platform.errors import ArtifactError, ConfigError, ModelNotFoundError
from lakebed.platform.mlflow_store import MlflowStore, quoted

EXPERIMENT: Final = "lakebed-models"
"""Where models registered without a training run are logged."""

_DIGEST: Final = "lakebed.digest"
_MODEL_ID: Final = "lakebed.logged_model"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
_ALIAS: Final = re.compile(r"(?!latest$|v?\d+$)[A-Za-z][A-Za-z0-9._-]{0,99}", re.IGNORECASE)


@dataclass(frozen=True)
class ModelVersion:
    """One registered version; `tags` are the user's and the scores', without lakebed's own bookkeeping."""

    name: str
    version: int
    aliases: tuple[str, ...]
    digest: str
    run_id: str | None
    created: datetime
    tags: Mapping[str, str]
    model_id: str | None = None

    @property
    def reference(self) -> str:
        """What `resolve_model` takes."""
        return f"{self.name}@{self.version}"


class Registry:
    """The model versions of one MLflow server or SQLite database. Making one costs nothing and reaches nothing."""

    def __init__(self, uri: str) -> None:
        self._store = MlflowStore(uri)

    def register(
        self,
        folder: Path,
        name: str,
        *,
        run_id: str | None = None,
        alias: str | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> ModelVersion:
        """Make the model directory a version of `name`; the same digest again is the same version.

        `run_id` is the training run, whose experiment then holds the files. Raises ArtifactError for a folder that
        is no whole model; a version appears only when its files are stored.
        """
        artifact = read_artifact(folder)
        _check(_NAME, name, "model name")
        if alias is not None:
            _check(_ALIAS, alias, "alias")
        version = self._with_digest(name, artifact.digest) or self._add(artifact, name, run_id)
        if alias is not None:
            self.set_alias(name, alias, version)
        self.tag(name, version, tags or {})
        return self.version(name, str(version))

    def names(self) -> list[str]:
        """Every registered model's name, sorted."""
        if self._store.is_empty:
            return []
        with self._store.translated():
            return sorted(model.name for model in _every_page(self._store.client.search_registered_models))

    def versions(self, name: str) -> list[ModelVersion]:
        """Every version of `name`, oldest first; raises ModelNotFoundError for an unknown name."""
        aliases = self._aliases(name)
        if aliases is None:
            raise self._unknown_name(name)
        client = self._store.client
        with self._store.translated():
            found = _every_page(client.search_model_versions, filter_string=f"name={quoted(name)}")
        return sorted((_version(entity, aliases) for entity in found), key=lambda version: version.version)

    def version(self, name: str, selector: str | None = None) -> ModelVersion:
        """The version that a number or an alias selects; None means the champion, else the newest."""
        found = self._select(name, selector)
        if found is None:
            raise self._unknown_name(name)
        return found

    def locate(self, name: str, selector: str | None) -> tuple[int, Path] | None:
        """Version number and a local verified folder; None only if the name is unknown.

        Downloads are kept by digest under LAKEBED_HOME/models. Raises ModelNotFoundError for an unknown version or
        alias, ArtifactError when the stored files do not match the digest that was registered.
        """
        found = self._select(name, selector)
        return None if found is None else (found.version, self._verified_folder(found))

    def set_alias(self, name: str, alias: str, version: int) -> None:
        """Point `alias` at a version, away from where it pointed before."""
        _check(_ALIAS, alias, "alias")
        self.version(name, str(version))
        with self._store.translated():
            self._store.client.set_registered_model_alias(name, alias, str(version))

    def tag(self, name: str, version: int, tags: Mapping[str, str]) -> None:
        """Set tags of a version, such as its headline scores."""
        with self._store.translated():
            for key, value in tags.items():
                self._store.client.set_model_version_tag(name, str(version), key, value)

    def name_tags(self, name: str) -> dict[str, str]:
        """Tags of a name, which belong to none of its versions; raises ModelNotFoundError for an unknown name."""
        found = (
            None if self._store.is_empty else self._store.find(lambda client: client.get_registered_model(name))
        )
        if found is None:
            raise self._unknown_name(name)
        return dict(found.tags)

    def tag_name(self, name: str, tags: Mapping[str, str]) -> None:
        """Set tags of a name, such as the history of its champions."""
        with self._store.translated():
            for key, value in tags.items():
                self._store.client.set_registered_model_tag(name, key, value)

    def _add(self, artifact: Artifact, name: str, run_id: str | None) -> int:
        with self._store.translated():
            model_id = self._upload(artifact, name, run_id)
        self._create_name(name)
        with self._store.translated(), self._store.as_default():
            created = self._store.client.create_model_version(
                name,
                source=f"models:/{model_id}",
                run_id=run_id,
                tags={_DIGEST: artifact.digest, _MODEL_ID: model_id},
                model_id=model_id,
            )
        return int(created.version)

    def _upload(self, artifact: Artifact, name: str, run_id: str | None) -> str:
        """Log the files as a LoggedModel; it is READY only when all are stored."""
        client = self._store.client
        experiment = client.get_run(run_id).info.experiment_id if run_id else self._store.experiment(EXPERIMENT)
        model = client.create_logged_model(
            experiment, name=name, source_run_id=run_id, tags={_DIGEST: artifact.digest}, model_type="encoder"
        )
        with tempfile.TemporaryDirectory() as staged:
            for file in files_of(artifact.path):
                shutil.copyfile(artifact.path / file, Path(staged) / file)
            try:
                client.log_model_artifacts(model.model_id, staged)
            except BaseException:
                client.finalize_logged_model(model.model_id, "FAILED")
                raise
        client.finalize_logged_model(model.model_id, "READY")
        return str(model.model_id)

    def _create_name(self, name: str) -> None:
        from mlflow.exceptions import MlflowException

        with self._store.translated():
            try:
                self._store.client.create_registered_model(name)
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":  # another process was first
                    raise

    def _with_digest(self, name: str, digest: str) -> int | None:
        if self._aliases(name) is None:
            return None
        with self._store.translated():
            found = self._store.client.search_model_versions(
                f"name={quoted(name)} and tag.`{_DIGEST}`={quoted(digest)}", max_results=1
            )
        return int(found[0].version) if found else None

    def _aliases(self, name: str) -> dict[int, tuple[str, ...]] | None:
        """Aliases by version; None for an unknown name. (A search for versions leaves their aliases empty.)"""
        if self._store.is_empty:
            return None
        model = self._store.find(lambda client: client.get_registered_model(name))
        if model is None:
            return None
        by_version: dict[int, tuple[str, ...]] = {}
        for alias, version in sorted(model.aliases.items()):
            by_version[int(version)] = (*by_version.get(int(version), ()), alias)
        return by_version

    def _select(self, name: str, selector: str | None) -> ModelVersion | None:
        aliases = self._aliases(name)
        if aliases is None:
            return None
        number = self._number(name, selector, aliases)
        found = self._store.find(lambda client: client.get_model_version(name, str(number)))
        if found is None:
            raise ModelNotFoundError(
                f"model {name!r} has no version {selector or number}", hint=f"`lakebed models {name}` lists them"
            )
        return _version(found, aliases)

    def _number(self, name: str, selector: str | None, aliases: Mapping[int, Sequence[str]]) -> int:
        if selector is not None and selector.isdecimal():
            return int(selector)
        wanted = selector or CHAMPION
        for number, names in aliases.items():
            if wanted in names:
                return number
        if selector is None and (versions := self.versions(name)):
            return versions[-1].version
        raise ModelNotFoundError(
            f"model {name!r} has no alias {wanted!r}", hint=f"`lakebed models {name}` lists versions and aliases"
        )

    def _verified_folder(self, version: ModelVersion) -> Path:
        if not version.digest or version.model_id is None:
            raise ArtifactError(
                f"model {version.reference} has no digest: lakebed did not register it",
                hint="register its folder with `lakebed register`",
            )
        folder = read_environment().home.absolute() / "models" / version.digest
        if not _is_whole(folder, version.digest):
            self._download(version, version.model_id, folder)
        return folder

    def _download(self, version: ModelVersion, model_id: str, folder: Path) -> None:
        """Fetch into a folder beside, verify, then rename: another process sees all of it or nothing."""
        from mlflow.artifacts import download_artifacts

        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix="partial-") as partial:
            with self._store.translated():
                location = self._store.client.get_logged_model(model_id).artifact_location
                found = download_artifacts(artifact_uri=location, dst_path=partial, tracking_uri=self._store.uri)
            try:
                read_artifact(Path(found), expect_digest=version.digest)
            except ArtifactError as error:
                raise ArtifactError(
                    f"model {version.reference}: the stored files are not what was registered: {error.message}"
                ) from None
            shutil.rmtree(folder, ignore_errors=True)
            try:
                Path(found).rename(folder)
            except OSError:
                if not _is_whole(folder, version.digest):  # else another process was first
                    raise

    def _unknown_name(self, name: str) -> ModelNotFoundError:
        known = ", ".join(self.names()) or "none is"
        return ModelNotFoundError(f"no model named {name!r} is registered", hint=f"registered: {known}")


def _is_whole(folder: Path, digest: str) -> bool:
    try:
        return read_artifact(folder, expect_digest=digest).digest == digest
    except ArtifactError:
        return False


def _check(pattern: re.Pattern[str], value: str, what: str) -> None:
    if not pattern.fullmatch(value) or value == "fake":
        raise ConfigError(
            f"{what} {value!r} cannot be used",
            hint="letters, digits, dot, dash and underscore; not `fake`, and for an alias not a version number",
        )


def _version(entity: Any, aliases: Mapping[int, tuple[str, ...]]) -> ModelVersion:
    number = int(entity.version)
    tags = dict(entity.tags)
    digest, model_id = tags.pop(_DIGEST, ""), tags.pop(_MODEL_ID, None)
    created = datetime.fromtimestamp(entity.creation_timestamp / 1000, UTC)
    return ModelVersion(
        entity.name, number, aliases.get(number, ()), digest, entity.run_id or None, created, tags, model_id
    )


def _every_page(search: Any, **arguments: Any) -> list[Any]:
    """Follow page tokens of an MLflow search to the end."""
    found: list[Any] = []
    token = None
    while True:
        page = search(page_token=token, **arguments)
        found.extend(page)
        token = page.token
        if not token:
            return found
