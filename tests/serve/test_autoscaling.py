"""How many replicas the waiting work needs."""

import pytest
from ray.serve._private.common import DeploymentID, ReplicaID
from ray.serve.config import AutoscalingContext

from lakebed.platform.config.serve import Replicas
from lakebed.serve.autoscaling import QUEUED_TOKENS, QueuedTokensPolicy, autoscaling_config

ENDPOINT = DeploymentID(name="endpoint", app_name="lakebed")


def context_of(*queued: float, target: int = 1, silent: int = 0) -> AutoscalingContext:
    """What Serve asks with: queued tokens of each replica that reported, and how many did not."""
    replicas = [ReplicaID(str(number), ENDPOINT) for number in range(len(queued) + silent)]
    reported = dict(zip(replicas, queued, strict=False))
    return AutoscalingContext(
        deployment_id=ENDPOINT,
        deployment_name=ENDPOINT.name,
        app_name=ENDPOINT.app_name,
        current_num_replicas=len(replicas),
        target_num_replicas=target,
        running_replicas=replicas,
        total_num_requests=0,
        total_queued_requests=0,
        aggregated_metrics={QUEUED_TOKENS: reported} if reported else {},
        raw_metrics={},
        capacity_adjusted_min_replicas=1,
        capacity_adjusted_max_replicas=8,
        policy_state={},
        last_scale_up_time=None,
        last_scale_down_time=None,
        current_time=0.0,
        config=None,
    )


@pytest.mark.parametrize(
    ("queued", "wanted"),
    [
        ([0], 1),
        ([1000], 1),
        ([1001], 2),
        ([4000, 0], 4),
        ([100, 100, 100], 1),
        ([500, 700], 2),
        ([9e9], 9_000_000),
    ],
)
def test_every_replica_is_to_have_the_target(queued: list[float], wanted: int) -> None:
    assert QueuedTokensPolicy(1000)(context_of(*queued)) == (wanted, {})


def test_a_replica_that_has_not_reported_brings_no_further_one() -> None:
    assert QueuedTokensPolicy(1000)(context_of(2000, silent=1, target=2)) == (2, {})


def test_without_any_report_nothing_changes() -> None:
    assert QueuedTokensPolicy(1000)(context_of(silent=3, target=3)) == (3, {})
    assert QueuedTokensPolicy(1000)(context_of(target=0)) == (1, {})


def test_serve_is_told_bounds_delays_and_a_policy_that_it_can_carry() -> None:
    replicas = Replicas(min=2, max=5, target_queued_tokens=700, upscale_seconds=3, downscale_seconds=4)
    config = autoscaling_config(replicas)
    assert (config.min_replicas, config.initial_replicas, config.max_replicas) == (2, 2, 5)
    assert (config.upscale_delay_s, config.downscale_delay_s) == (3, 4)
    policy = config.policy.get_policy()(**config.policy.policy_kwargs)
    assert policy(context_of(1400.5)) == (3, {})
