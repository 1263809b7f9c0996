"""A moved alias is followed: a real registry, real models, requests going on meanwhile."""

import json
import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import pytest
from starlette.testclient import TestClient

from lakebed.platform.config.serve import Batching, Limits, ServeConfig
from lakebed.platform.encoder.artifact import CONFIG, TENSORS, digest_of
from lakebed.platform.encoder.load import Model, can_move, packaged_model, resolve_model
from lakebed.platform.encoder.protocol import Encoder
from lakebed.platform.errors import ConfigError
from lakebed.platform.registry import Registry
from lakebed.serve.api import create_api
from lakebed.serve.auth import NoKeys
from lakebed.serve.following import Follower
from lakebed.serve.models import LocalRunners, ModelLoader, ServedModels
from lakebed.serve.ports import free_port
from lakebed.serve.process import running_server
from lakebed.serve.service import Service

SERIES = [[0.0, 1.0, 4.0, 9.0, 3.0, 1.0] * 20]


def variant(folder: Path, share: float) -> Path:
    """A copy of the packaged model that gives signals other vectors."""
    shutil.copytree(packaged_model(), folder)
    config = json.loads((folder / CONFIG).read_text())
    config["shares"]["level"] = share
    (folder / CONFIG).write_text(json.dumps(config))
    return folder


class Replica:
    """What a replica holds, without Ray."""

    def __init__(self, registry: Registry, reference: str) -> None:
        loader = ModelLoader("cpu", LocalRunners(Batching()))
        models: dict[str, Model] = {"m": resolve_model(reference, registry)}
        self.served = ServedModels(loader.load(models))
        self.follower = Follower(self.served, models, loader, registry)
        self.api = create_api(Service(self.served, NoKeys(), Limits()))


@pytest.fixture
def registry(mlflow_database: str, tmp_path: Path) -> Registry:
    """Two versions of `moving`, the first of them the champion."""
    registry = Registry(mlflow_database)
    for number, share in enumerate((0.45, 0.1)):
        registry.register(variant(tmp_path / f"v{number}", share), "moving")
    registry.set_alias("moving", "champion", 1)
    return registry


def ask(client: httpx.Client) -> tuple[str, np.ndarray]:
    answer = client.post("/v1/embeddings", json={"model": "m", "input": [{"time_series": SERIES}] * 3})
    assert answer.status_code == 200, answer.text
    vectors = np.array([entry["embedding"] for entry in answer.json()["data"]], np.float32)
    return answer.headers["x-lakebed-model-version"], vectors


def while_asking(client: httpx.Client, act: Callable[[], None]) -> list[tuple[str, np.ndarray]]:
    """What was answered while `act` ran, and some more before and after."""
    answers, stop = [ask(client)], threading.Event()

    def go_on() -> None:
        while not stop.is_set():
            answers.append(ask(client))

    askers = [threading.Thread(target=go_on) for _ in range(3)]
    for asker in askers:
        asker.start()
    act()
    stop.set()
    for asker in askers:
        asker.join()
    return [*answers, ask(client)]


def test_a_moved_alias_is_followed_and_no_answer_fails_or_mixes_two_models(registry: Registry) -> None:
    replica = Replica(registry, "moving")
    with TestClient(replica.api) as client:

        def promote() -> None:
            registry.set_alias("moving", "champion", 2)
            replica.follower.look()

        answers = while_asking(client, promote)
    check_versions(answers)


def check_versions(answers: list[tuple[str, np.ndarray]]) -> None:
    """The first answer is of version 1, the last of version 2, and every answer is of one alone."""
    expected = {version: vectors[0] for version, vectors in (answers[0], answers[-1])}
    assert (answers[0][0], answers[-1][0]) == ("1", "2")
    assert expected["1"] @ expected["2"] < 0.99
    for version, vectors in answers:
        np.testing.assert_allclose(vectors @ expected[version], 1, atol=1e-4)


def test_a_real_server_in_the_split_shape_follows_a_moved_alias_under_load(
    registry: Registry, mlflow_database: str
) -> None:
    config = ServeConfig(
        port=free_port(), models={"m": "moving"}, require_keys=False, follow_seconds=0.2, shape="split"
    )
    environment = {**os.environ, "LAKEBED_TRACKING_URI": mlflow_database}
    with (
        running_server(config, environment=environment) as url,
        httpx.Client(base_url=url, trust_env=False, timeout=60) as client,
    ):

        def promote() -> None:
            registry.set_alias("moving", "champion", 2)
            give_up = time.monotonic() + 90
            while ask(client)[0] == "1":
                assert time.monotonic() < give_up

        check_versions(while_asking(client, promote))


def test_what_is_served_stays_when_the_registry_or_the_new_version_fails(
    registry: Registry, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    replica, second = Replica(registry, "moving"), registry.version("moving", "2")
    before = replica.served.find("m")
    stored = [path for path in (tmp_path / "store").rglob(TENSORS) if digest_of(path.parent) == second.digest]
    stored[0].write_bytes(b"not a model")
    registry.set_alias("moving", "champion", 2)
    replica.follower.look()
    replica.follower.look()
    assert replica.served.find("m") is before
    assert sum("stays as it is" in record.getMessage() for record in caplog.records) == 1


def test_a_version_that_does_not_fit_the_configuration_is_not_put_in_place(
    registry: Registry,
) -> None:
    replica, first = Replica(registry, "moving"), resolve_model("moving", registry)

    def check(encoder: Encoder) -> None:
        if encoder.info.digest != first.digest:
            raise ConfigError("it takes no token ids")

    loader = ModelLoader("cpu", LocalRunners(Batching()), check)
    before = replica.served.find("m")
    registry.set_alias("moving", "champion", 2)
    Follower(replica.served, {"m": first}, loader, registry).look()
    assert replica.served.find("m") is before
    assert replica.served.find("m").encoder.info.digest == first.digest


def test_a_name_that_is_registered_later_takes_the_place_of_the_packaged_model(
    mlflow_database: str, tmp_path: Path
) -> None:
    registry = Registry(mlflow_database)
    replica = Replica(registry, "lakebed-embed")
    replica.follower.look()
    assert replica.served.find("m").version == "unversioned"
    registry.register(variant(tmp_path / "first", 0.2), "lakebed-embed", alias="champion")
    replica.follower.look()
    assert replica.served.find("m").version == "1"


@pytest.mark.parametrize(
    ("reference", "moves"),
    [
        ("lakebed-embed", True),
        ("m@candidate", True),
        ("m@7", False),
        ("./m", False),
        ("fake", False),
        ("a.b:C", False),
    ],
)
def test_only_names_and_aliases_of_the_registry_can_move(reference: str, moves: bool) -> None:
    assert can_move(reference) is moves
