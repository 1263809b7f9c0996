"""serve.yaml: what is accepted, and how a fault is said."""

import subprocess
import sys
from pathlib import Path

import pytest

from lakebed.cli.serve import read_config
from lakebed.platform.config.serve import INERTIAL_NAME, Limits, ServeConfig
from lakebed.platform.errors import ConfigError

EXAMPLE = Path(__file__).parents[2] / "examples" / "serve.yaml"


def test_the_defaults_are_the_default_model_under_two_names_on_loopback() -> None:
    config = ServeConfig()
    assert (config.host, config.port, config.require_keys) == ("127.0.0.1", 8000, True)
    assert config.models == {"lakebed-embed": "lakebed-embed", INERTIAL_NAME: "lakebed-embed"}


def test_the_shipped_example_is_valid_and_says_the_defaults() -> None:
    assert ServeConfig.from_yaml(EXAMPLE) == ServeConfig()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("port: 70000", "port: input should be less than or equal to 65535"),
        ("prot: 8000", "prot: unknown field"),
        ("models: {}", "models: "),
        ('models: {"a\\nb": fake}', "printable ASCII name"),
        ("host: 0.0.0.0\nrequire_keys: false", "only on loopback, not on 0.0.0.0"),
        ("replicas: 0", "replicas.min: "),
        ("replicas: {min: 0, max: 2}", "replicas.min: "),
        ("replicas: {min: 3, max: 2}", "3 is above 2"),
        ("replicas: true", "replicas: "),
        ("limits: {max_request_tokens: 10}", "max_input_tokens must not be above"),
        ("[1, 2]", "expected a mapping"),
        ("port: [", "not valid YAML at line 1"),
    ],
)
def test_a_fault_is_said_in_one_line_with_the_file(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "serve.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_config(path, {})
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_replicas_are_a_number_or_bounds(tmp_path: Path) -> None:
    fixed = ServeConfig.parse({"replicas": 3}, where="test").replicas
    assert (fixed.min, fixed.max, fixed.vary) == (3, 3, False)
    varying = ServeConfig.parse({"replicas": {"min": 1, "max": 8}}, where="test").replicas
    assert (varying.min, varying.max, varying.vary) == (1, 8, True)
    assert (
        ServeConfig.parse(ServeConfig(replicas=varying).model_dump(mode="json"), where="test").replicas == varying
    )


def test_options_override_the_file(tmp_path: Path) -> None:
    path = tmp_path / "serve.yaml"
    path.write_text("port: 9000\ndevice: cpu\n")
    config = read_config(path, {"port": 9001, "device": None})
    assert (config.port, config.device) == (9001, "cpu")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_keys_may_be_off_on_loopback(host: str) -> None:
    assert not ServeConfig(host=host, require_keys=False).require_keys


def test_limits_that_could_never_hold_are_refused() -> None:
    with pytest.raises(ValueError, match="max_request_tokens"):
        Limits(max_queued_tokens=100_000)


def test_the_configuration_imports_nothing_heavy() -> None:
    code = "import sys, lakebed.cli.serve, lakebed.cli.keys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True).stdout
    assert not {"torch", "ray", "mlflow", "sqlalchemy", "fastapi"} & set(loaded.split())
