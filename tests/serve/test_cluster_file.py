"""`lakebed serve build`: a file that Serve takes, and says no to what a cluster could not find."""

from pathlib import Path

import pytest
import yaml

from lakebed.cli.app import app
from lakebed.platform.config.serve import ServeConfig
from lakebed.platform.errors import ConfigError
from lakebed.platform.registry import Registry
from lakebed.serve.cluster_file import cluster_file
from lakebed.serve.server import SERVE_VARIABLES

REPOSITORY = Path(__file__).parents[2]
STORE = "postgresql+psycopg://lakebed@db/keys"


def config_of(**fields: object) -> ServeConfig:
    return ServeConfig.model_validate({"host": "0.0.0.0", "key_store": STORE, "models": {"m": "fake:8"}, **fields})


def test_serve_accepts_the_file() -> None:
    from ray.serve.schema import ServeDeploySchema

    config = config_of(port=8100, replicas={"min": 2, "max": 4, "cpus": 3})
    schema = ServeDeploySchema.model_validate(yaml.safe_load(cluster_file(config)[0]))
    assert (schema.http_options.host, schema.http_options.port) == ("0.0.0.0", 8100)
    [application] = schema.applications
    assert application.import_path == "lakebed.serve.app:deploy"
    assert ServeConfig.model_validate(application.args) == config


def test_serve_can_call_what_the_file_names() -> None:
    from ray._common.utils import import_attr
    from ray.serve._private.api import call_user_app_builder_with_args_if_necessary
    from ray.serve._private.build_app import build_app

    [entry] = yaml.safe_load(cluster_file(config_of(replicas={"min": 1, "max": 4, "cpus": 3}))[0])["applications"]
    built = build_app(
        call_user_app_builder_with_args_if_necessary(import_attr(entry["import_path"]), entry["args"]), name="x"
    )
    [endpoint] = built.deployments
    assert endpoint.ray_actor_options["num_cpus"] == 3
    assert endpoint._deployment_config.autoscaling_config.max_replicas == 4
    assert endpoint._deployment_config.max_surge_percent > 0


@pytest.mark.parametrize("fields", [{"models": {"m": "./folder"}}, {"models": {"m": "/models/one"}}])
def test_a_folder_of_this_machine_is_refused_with_the_way_out(fields: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="lakebed register"):
        cluster_file(config_of(**fields))


def test_a_registry_of_this_machine_is_refused_with_the_way_out() -> None:
    with pytest.raises(ConfigError, match="LAKEBED_TRACKING_URI"):
        cluster_file(config_of(models={"m": "mine@3"}))


def test_a_model_in_a_registry_that_the_cluster_can_ask_is_named_with_its_version(
    mlflow_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lakebed.platform.encoder.load import packaged_model

    registered = Registry(mlflow_server).register(packaged_model(), "for-a-cluster")
    monkeypatch.setenv("LAKEBED_TRACKING_URI", mlflow_server)
    text, notes = cluster_file(config_of(models={"m": "for-a-cluster"}))
    assert f"version {registered.version}, digest {registered.digest[:12]}" in notes[0]
    [application] = yaml.safe_load(text)["applications"]
    assert application["runtime_env"]["env_vars"]["LAKEBED_TRACKING_URI"] == mlflow_server


@pytest.mark.parametrize("key_store", [None, "sqlite:///keys.db"])
def test_keys_in_a_file_of_one_machine_are_refused(key_store: str | None) -> None:
    with pytest.raises(ConfigError, match="every node"):
        cluster_file(config_of(key_store=key_store))


def test_secrets_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="PGPASSWORD") as caught:
        cluster_file(config_of(key_store="postgresql+psycopg://lakebed:geheim@db/keys"))
    assert "geheim" not in str(caught.value)
    monkeypatch.setenv("LAKEBED_TRACKING_URI", "https://me:geheim@mlflow")
    with pytest.raises(ConfigError, match="MLFLOW_TRACKING_PASSWORD") as caught:
        cluster_file(config_of())
    assert "geheim" not in str(caught.value)


def test_what_may_surprise_is_said() -> None:
    _, notes = cluster_file(config_of(host="127.0.0.1", require_keys=False))
    assert [note.split()[0] for note in notes] == ["m", "host", "replicas.cpus"]


def test_the_command_writes_the_file(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    (tmp_path / "serve.yaml").write_text(yaml.safe_dump(config_of().model_dump(mode="json")))
    out = tmp_path / "out.yaml"
    result = CliRunner().invoke(app, ["serve", "build", "-c", str(tmp_path / "serve.yaml"), "-o", str(out)])
    assert result.exit_code == 0
    assert "serve deploy" in result.stderr
    assert out.read_text() == cluster_file(config_of())[0]


def test_the_cluster_of_the_repository_has_what_the_file_needs() -> None:
    cluster = yaml.safe_load((REPOSITORY / "cluster.yaml").read_text())
    assert any("pip install" in command for command in cluster["setup_commands"])
    for commands in (cluster["head_start_ray_commands"], cluster["worker_start_ray_commands"]):
        exported, _, rest = commands[-1].partition(";")
        assert "ray start" in rest
        for name, value in SERVE_VARIABLES.items():
            assert f" {name}={value} " in exported or f" {name}='{value}' " in exported
