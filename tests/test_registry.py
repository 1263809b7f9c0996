"""The registry against a real SQLite MLflow and a real MLflow server."""

from pathlib import Path

import numpy as np
import pytest

from lakebed.platform.encoder.artifact import (
    TENSORS,
    digest_of,
    record_vectors,
    recorded_vectors,
    write_artifact,
)
from lakebed.platform.encoder.load import resolve_model
from lakebed.platform.errors import ArtifactError, ConfigError, ModelNotFoundError, UnreachableError
from lakebed.platform.registry import Registry
from lakebed.platform.tracking import Tracking


def model_folder(path: Path, value: float = 1.0) -> Path:
    """Write a whole, tiny model directory whose digest depends on `value`."""
    tensors = {"weight": np.full((2, 2), value, np.float32)}
    return write_artifact(path, {"name": "tiny", "dimensions": 2}, tensors, "# Tiny\n").path


@pytest.fixture(params=["mlflow_database", "mlflow_server"])
def registry(request: pytest.FixtureRequest) -> Registry:
    return Registry(request.getfixturevalue(request.param))


@pytest.fixture
def name(tmp_path: Path) -> str:
    """Return a model name of this test's own, as one server serves them all."""
    return f"model-{tmp_path.name}"


def test_a_registered_model_comes_back_whole_and_verified(registry: Registry, tmp_path: Path, name: str) -> None:
    folder = model_folder(tmp_path / "made")
    record_vectors(folder, {"key": np.ones(2, np.float32)})
    version = registry.register(folder, name, alias="champion", tags={"note": "first"})
    assert (version.version, version.aliases, version.digest) == (1, ("champion",), digest_of(folder))
    assert version.tags == {"note": "first"}
    located = registry.locate(name, None)
    assert located is not None
    assert located[0] == 1
    assert digest_of(located[1]) == version.digest
    assert recorded_vectors(located[1])["key"].tolist() == [1, 1]


def test_the_same_digest_is_the_same_version(registry: Registry, tmp_path: Path, name: str) -> None:
    folder = model_folder(tmp_path / "made")
    assert registry.register(folder, name).version == registry.register(folder, name).version == 1
    assert registry.register(model_folder(tmp_path / "other", 2.0), name).version == 2
    assert [version.version for version in registry.versions(name)] == [1, 2]
    assert name in registry.names()


def test_selectors_choose_number_alias_champion_or_newest(registry: Registry, tmp_path: Path, name: str) -> None:
    for value in (1.0, 2.0, 3.0):
        registry.register(model_folder(tmp_path / str(value), value), name)
    assert registry.version(name).version == 3
    registry.set_alias(name, "champion", 2)
    registry.set_alias(name, "candidate", 3)
    assert registry.version(name).version == 2
    assert registry.version(name, "candidate").version == 3
    assert registry.version(name, "1").version == 1
    assert [version.aliases for version in registry.versions(name)] == [(), ("champion",), ("candidate",)]


def test_unknown_versions_and_aliases_are_errors_unknown_names_are_none(
    registry: Registry, tmp_path: Path, name: str
) -> None:
    assert registry.locate(name, "7") is None
    registry.register(model_folder(tmp_path / "made"), name)
    with pytest.raises(ModelNotFoundError, match="no version 7"):
        registry.locate(name, "7")
    with pytest.raises(ModelNotFoundError, match="no alias 'candidate'"):
        registry.locate(name, "candidate")
    with pytest.raises(ModelNotFoundError, match="no version 7"):
        registry.set_alias(name, "candidate", 7)


def test_a_registered_model_resolves_by_reference(registry: Registry, tmp_path: Path, name: str) -> None:
    version = registry.register(model_folder(tmp_path / "made"), name)
    model = resolve_model(f"{name}@1", registry)
    assert (model.name, model.version, model.digest) == (name, 1, version.digest)


def test_a_training_run_is_the_versions_source(registry: Registry, tmp_path: Path, name: str) -> None:
    tracking = Tracking(registry._store.uri)
    with tracking.run(f"train-{name}", "training") as run:
        version = registry.register(model_folder(tmp_path / "made"), name, run_id=run.id)
    assert version.run_id == run.id


def test_changed_files_in_the_store_are_refused(mlflow_database: str, tmp_path: Path) -> None:
    registry = Registry(mlflow_database)
    registry.register(model_folder(tmp_path / "made"), "tiny")
    (stored,) = (tmp_path / "store").rglob(TENSORS)
    stored.write_bytes((model_folder(tmp_path / "other", 2.0) / TENSORS).read_bytes())
    with pytest.raises(ArtifactError, match="not what was registered"):
        registry.locate("tiny", "1")


def test_a_changed_download_is_fetched_again(mlflow_database: str, tmp_path: Path) -> None:
    registry = Registry(mlflow_database)
    version = registry.register(model_folder(tmp_path / "made"), "tiny")
    located = registry.locate("tiny", "1")
    assert located is not None
    (located[1] / TENSORS).write_bytes(b"broken")
    assert registry.locate("tiny", "1") == located
    assert digest_of(located[1]) == version.digest


def test_a_folder_that_is_no_model_registers_nothing(mlflow_database: str, tmp_path: Path) -> None:
    registry = Registry(mlflow_database)
    with pytest.raises(ArtifactError, match="no model here"):
        registry.register(tmp_path, "tiny")
    assert registry.names() == []


@pytest.mark.parametrize("bad", ["a/b", "a@b", "a:b", "", "fake", "it's"])
def test_names_that_a_reference_cannot_carry_are_refused(mlflow_database: str, tmp_path: Path, bad: str) -> None:
    registry = Registry(mlflow_database)
    with pytest.raises(ConfigError, match="cannot be used"):
        registry.register(model_folder(tmp_path / "made"), bad)


@pytest.mark.parametrize("bad", ["7", "v7", "latest", "a@b"])
def test_aliases_that_read_as_versions_are_refused(mlflow_database: str, tmp_path: Path, bad: str) -> None:
    registry = Registry(mlflow_database)
    with pytest.raises(ConfigError, match="cannot be used"):
        registry.register(model_folder(tmp_path / "made"), "tiny", alias=bad)


def test_looking_into_a_store_that_was_never_used_makes_nothing(tmp_path: Path) -> None:
    registry = Registry(f"sqlite:///{tmp_path}/store/mlflow.db")
    assert registry.locate("lakebed-embed", None) is None
    assert not (tmp_path / "store").exists()


def test_a_server_that_is_away_is_one_clear_error(free_port: int) -> None:
    with pytest.raises(UnreachableError, match="no MLflow server answers") as caught:
        Registry(f"http://somebody:secret@127.0.0.1:{free_port}").names()
    assert "secret" not in str(caught.value)


def test_an_address_of_another_kind_is_refused() -> None:
    with pytest.raises(ConfigError, match="expected http"):
        Registry("postgresql://somebody:secret@db/mlflow")


def test_a_file_that_is_no_database_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("not a database, but long enough to be looked at as one" * 50)
    with pytest.raises(UnreachableError, match="cannot be used"):
        Registry(f"sqlite:///{tmp_path}/mlflow.db").names()
