"""Champions and the way back, in a real registry."""

from pathlib import Path

import numpy as np
import pytest

from lakebed.eval.promote import Decision, champion_of, plan_rollback, promote, roll_back
from lakebed.platform.encoder.artifact import write_artifact
from lakebed.platform.encoder.load import CHAMPION
from lakebed.platform.errors import ConfigError, ModelNotFoundError, NotFoundError
from lakebed.platform.registry import Registry


@pytest.fixture
def registry(mlflow_database: str, tmp_path: Path) -> Registry:
    """Three versions of a tiny model."""
    found = Registry(mlflow_database)
    for number in (1, 2, 3):
        folder = tmp_path / str(number)
        write_artifact(folder, {"name": "tiny"}, {"weight": np.full(2, number, np.float32)}, "# Tiny\n")
        found.register(folder, "tiny")
    return found


def crown(registry: Registry, *versions: int) -> None:
    for number in versions:
        promote(registry.version("tiny", str(number)), Decision(True, f"better, says test {number}"), registry)


def back(registry: Registry, to: int | None = None) -> int:
    roll_back(plan_rollback("tiny", registry, to), "it went wrong", registry)
    champion = champion_of("tiny", registry)
    assert champion is not None
    return champion.version


def test_a_promotion_leaves_its_reason_and_the_champion_before(registry: Registry) -> None:
    crown(registry, 1, 2)
    tags = registry.version("tiny", "2").tags
    assert tags["lakebed.promoted"] == "better, says test 2"
    assert tags["lakebed.previous_champion"] == "1"
    assert "lakebed.promoted_at" in tags


def test_several_rollbacks_go_further_back(registry: Registry) -> None:
    crown(registry, 1, 2, 1, 3)
    assert [back(registry), back(registry), back(registry)] == [1, 2, 1]
    assert "to tiny@1: it went wrong" in registry.version("tiny", "3").tags["lakebed.rolled_back"]
    with pytest.raises(NotFoundError, match="no champion of tiny before tiny@1"):
        plan_rollback("tiny", registry)


def test_a_rollback_to_a_version_skips_those_between(registry: Registry) -> None:
    crown(registry, 1, 2, 3)
    assert back(registry, to=1) == 1
    with pytest.raises(ConfigError, match="tiny@3 was not champion before"):
        plan_rollback("tiny", registry, 3)
    with pytest.raises(ConfigError, match="already"):
        plan_rollback("tiny", registry, 1)


def test_an_alias_that_was_moved_by_hand_is_noticed(registry: Registry) -> None:
    crown(registry, 1)
    registry.set_alias("tiny", CHAMPION, 2)
    crown(registry, 3)
    assert [back(registry), back(registry)] == [2, 1]


def test_a_rollback_that_died_halfway_is_finished_by_the_next(registry: Registry) -> None:
    crown(registry, 1, 2, 3)
    registry.tag_name("tiny", {"lakebed.champions": "[1, 2]"})  # the history was written, the alias not yet moved
    assert back(registry) == 2


def test_there_is_no_way_back_without_a_champion(registry: Registry) -> None:
    with pytest.raises(NotFoundError, match="tiny has no champion"):
        plan_rollback("tiny", registry)
    with pytest.raises(ModelNotFoundError, match="other"):
        plan_rollback("other", registry)
