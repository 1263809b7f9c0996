from pathlib import Path
from typing import Any

import pytest
import yaml

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def cluster() -> dict[str, Any]:
    config: dict[str, Any] = yaml.safe_load((REPOSITORY / "cluster.yaml").read_text())
    return config


def test_ray_accepts_the_cluster_file(cluster: dict[str, Any]) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(cluster))


def test_the_check_would_refuse_a_wrong_file(cluster: dict[str, Any]) -> None:
    from jsonschema import ValidationError
    from ray.autoscaler._private.util import prepare_config, validate_config

    with pytest.raises(ValidationError):
        validate_config(prepare_config({**cluster, "max_worker": 3}))


def test_gpu_workers_come_and_go_with_the_work(cluster: dict[str, Any]) -> None:
    gpu = cluster["available_node_types"]["gpu"]
    assert gpu["min_workers"] == 0
    assert 0 < gpu["max_workers"] <= cluster["max_workers"]
    assert gpu["resources"]["GPU"] >= 1


def test_every_node_gets_the_code_and_the_token(cluster: dict[str, Any]) -> None:
    mounts = cluster["file_mounts"]
    assert (REPOSITORY / mounts["/home/ubuntu/lakebed"] / "constraints.txt").is_file()
    assert mounts["/home/ubuntu/.ray/auth_token"] == "~/.ray/auth_token"
    for commands in (cluster["head_start_ray_commands"], cluster["worker_start_ray_commands"]):
        assert "RAY_AUTH_MODE=token ray start" in commands[-1]
