"""How many replicas the waiting work needs, in tokens: a request may hold one word or 2,048 documents.

Each replica tells Serve how many token equivalents it has accepted and not yet answered; Serve's controller
averages that over some seconds, asks `QueuedTokensPolicy`, and applies bounds and delays. It knows no clock.
"""

import math
import warnings
from typing import Any, Final

from ray.serve.config import AutoscalingConfig, AutoscalingContext

from lakebed.platform.config.serve import Replicas

QUEUED_TOKENS: Final = "queued_tokens"
"""Name of the figure that replicas report."""

_REPORT_SECONDS: Final = 1.0
_AVERAGED_SECONDS: Final = 5.0


class QueuedTokensPolicy:
    """As many replicas as keep each at `target` queued tokens, never none.

    A replica that has not reported yet, because it just started, is left out of the sum but counted as present, so
    the figure cannot run away while new replicas warm up.
    """

    def __init__(self, target: int) -> None:
        self.target = target

    def __call__(self, context: AutoscalingContext) -> tuple[int, dict[str, Any]]:
        """Return the wanted number of replicas and no state; Serve keeps it within the bounds."""
        reported = (context.aggregated_metrics or {}).get(QUEUED_TOKENS, {})
        if not reported:
            return max(1, context.target_num_replicas), {}
        return max(1, math.ceil(sum(reported.values()) / self.target)), {}


def autoscaling_config(replicas: Replicas) -> AutoscalingConfig:
    """What Serve is told."""
    with warnings.catch_warnings():
        # Its successor, an environment variable, is read by nothing in Ray 2.60; ten seconds would be too slow.
        warnings.filterwarnings("ignore", "The `metrics_interval_s` field", DeprecationWarning)
        return AutoscalingConfig(
            min_replicas=replicas.min,
            initial_replicas=replicas.min,
            max_replicas=replicas.max,
            metrics_interval_s=_REPORT_SECONDS,
            look_back_period_s=_AVERAGED_SECONDS,
            upscale_delay_s=replicas.upscale_seconds,
            downscale_delay_s=replicas.downscale_seconds,
            policy={
                "policy_function": f"{__name__}:{QueuedTokensPolicy.__name__}",
                "policy_kwargs": {"target": replicas.target_queued_tokens},
            },
        )
