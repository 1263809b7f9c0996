"""What the endpoint benchmark compares, figure by figure; `benchmarks.endpoint` says what each figure means."""

import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from operator import sub, truediv
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from benchmarks.endpoint_load import Group, Outcome, Tally
from benchmarks.endpoint_requests import (
    MODEL,
    SIGNALS_EACH,
    TEXTS_EACH,
    Requests,
    lowest_cosine,
    write_requests,
)
from benchmarks.endpoint_servers import (
    Memory,
    Server,
    answered,
    idle_cores,
    memory_watched,
    our_server,
    peer_server,
)
from benchmarks.infinity_peer import REQUIREMENTS
from benchmarks.peer_environment import PeerMissingError, environment
from benchmarks.text_encoder import load, text_part
from lakebed.platform.encoder.multimodal import MultiModalEncoder
from lakebed.platform.encoder.prepared import VectorArray
from lakebed.platform.encoder.protocol import encode
from lakebed.platform.encoder.text_tower import weights_folder
from lakebed.platform.items import Item

if TYPE_CHECKING:
    from benchmarks.endpoint import Sizes

CONNECTIONS = 16
SMALL_CONNECTIONS, HUGE_CONNECTIONS = 18, 2
OVERLOAD = 5
IDLE_SECONDS = 3.0
SAME_ENCODER, SAME_WEIGHTS = 0.9999, 0.999

Figures = dict[str, float]
Measured = Mapping[str, Sequence[float]]


class Alone:
    """The encoder in this process."""

    def __init__(self, encoder: MultiModalEncoder) -> None:
        self.encoder = encoder

    def per_second(self, items: Sequence[Item], seconds: float) -> float:
        """Items/s, all of them in one call, called again until the time is up."""
        began, count = time.perf_counter(), 0
        while (spent := time.perf_counter() - began) < seconds:
            encode(self.encoder, items)
            count += len(items)
        return count / spent

    def milliseconds(self, item: Item, seconds: float) -> float:
        """Median time of one item."""
        ends, taken = time.perf_counter() + seconds, []
        while (began := time.perf_counter()) < ends:
            self.encoder.finish(self.encoder.forward(self.encoder.prepare([item])))
            taken.append(time.perf_counter() - began)
        return 1000 * statistics.median(taken)


class Busy:
    """A server that 16 connections keep busy with requests of `each` inputs; every sampled answer is checked."""

    def __init__(self, server: Server, bodies: str, each: int, expected: VectorArray, at_least: float) -> None:
        self._server, self._bodies, self._each = server, bodies, each
        self._expected, self._at_least = expected, at_least
        self.lowest_cosine = 1.0
        self.generator_cores = 0.0

    def per_second(self, seconds: float) -> float:
        """Inputs/s; raises ValueError for wrong vectors, RuntimeError for a request that was not answered."""
        outcome = self._server.load({"all": Group(self._bodies, CONNECTIONS)}, seconds)
        tally = answered(outcome.groups["all"])
        self.lowest_cosine = min(self.lowest_cosine, lowest_cosine(tally.samples, self._expected, self._each))
        if self.lowest_cosine < self._at_least:
            raise ValueError(f"cosine {self.lowest_cosine:.5f} to the encoder's vector, under {self._at_least}")
        self.generator_cores = outcome.cpu_seconds / tally.seconds
        return self._each * len(tally.latencies) / tally.seconds


def measure(sizes: "Sizes", only: Sequence[str]) -> Figures:
    """Run the servers and the comparisons that `only` names, in their order."""
    with tempfile.TemporaryDirectory(prefix="lakebed-requests-") as folder:
        requests = write_requests(Path(folder))
        alone = Alone(load("cpu", None))
        with our_server(MODEL) as ours:
            parts: Mapping[str, Callable[[], Figures]] = {
                "texts": lambda: texts(ours, alone, requests, sizes),
                "single": lambda: single_overhead(ours, alone, requests, sizes),
                "signals": lambda: signals(ours, alone, requests, sizes),
                "mixed": lambda: mixed(ours, requests, sizes),
                "overload": lambda: overload(ours, requests, sizes),
            }
            figures: Figures = {}
            for name in only:
                figures |= parts[name]()
            settings = {"threads": torch.get_num_threads(), "rounds": sizes.rounds, "seconds": sizes.seconds}
            return figures | settings


def texts(ours: Server, alone: Alone, requests: Requests, sizes: "Sizes") -> Figures:
    """One and 32 texts a request, beside infinity and beside the encoder alone."""
    vectors = encode(alone.encoder, requests.texts).vectors
    try:
        installed = environment("infinity", REQUIREMENTS)
    except PeerMissingError as error:
        print(f"without infinity_emb: {error}")
        return _texts({"ours": (ours, vectors, SAME_ENCODER)}, alone, requests, sizes)
    weights = weights_folder(alone.encoder.text.spec.source)
    with peer_server(installed, weights, MODEL) as peer:
        sides = {
            "ours": (ours, vectors, SAME_ENCODER),
            "infinity": (peer, text_part(alone.encoder, vectors), SAME_WEIGHTS),
        }
        return _texts(sides, alone, requests, sizes) | {
            "idle_cores_ours": idle_cores(ours, IDLE_SECONDS),
            "idle_cores_infinity": idle_cores(peer, IDLE_SECONDS),
        }


def _texts(
    servers: Mapping[str, tuple[Server, VectorArray, float]], alone: Alone, requests: Requests, sizes: "Sizes"
) -> Figures:
    figures: Figures = {}
    for name, each in (("single", 1), ("batch32", TEXTS_EACH)):
        busy = {
            side: Busy(server, requests.bodies[name], each, *check) for side, (server, *check) in servers.items()
        }
        sides = {side: partial(one.per_second, sizes.seconds) for side, one in busy.items()}
        if name == "batch32":
            sides["alone"] = partial(alone.per_second, requests.texts, sizes.seconds)
        measured = in_turn(name, sides, sizes.rounds)
        figures |= {
            f"{name}_texts_per_second_{side}": statistics.median(found) for side, found in measured.items()
        }
        figures |= {f"{name}_min_cosine_{side}": one.lowest_cosine for side, one in busy.items()}
        figures[f"{name}_generator_cores"] = busy["ours"].generator_cores
        if "infinity" in measured:
            figures[f"{name}_vs_infinity"] = over_rounds(truediv, measured["ours"], measured["infinity"])
        if "alone" in measured:
            figures[f"{name}_efficiency"] = over_rounds(truediv, measured["ours"], measured["alone"])
    return figures


def single_overhead(ours: Server, alone: Alone, requests: Requests, sizes: "Sizes") -> Figures:
    """One short text on one connection."""

    def served() -> float:
        outcome = ours.load({"all": Group(requests.bodies["one"])}, sizes.seconds)
        return percentile(answered(outcome.groups["all"]), 50)

    sides = {"ours": served, "alone": partial(alone.milliseconds, requests.short[0], sizes.seconds)}
    measured = in_turn("single text, ms", sides, sizes.rounds)
    return {
        "single_overhead_ms": over_rounds(sub, measured["ours"], measured["alone"]),
        **{f"single_p50_ms_{side}": statistics.median(found) for side, found in measured.items()},
    }


def signals(ours: Server, alone: Alone, requests: Requests, sizes: "Sizes") -> Figures:
    """Series as JSON numbers."""
    vectors = encode(alone.encoder, requests.signals).vectors
    busy = Busy(ours, requests.bodies["signals"], SIGNALS_EACH, vectors, SAME_ENCODER)
    sides = {
        "ours": partial(busy.per_second, sizes.seconds),
        "alone": partial(alone.per_second, requests.signals, sizes.seconds),
    }
    measured = in_turn("signals", sides, sizes.rounds)
    return {
        "signals_efficiency": over_rounds(truediv, measured["ours"], measured["alone"]),
        "signals_min_cosine_ours": busy.lowest_cosine,
        "signals_generator_cores": busy.generator_cores,
        **{f"signals_per_second_{side}": statistics.median(found) for side, found in measured.items()},
    }


def mixed(ours: Server, requests: Requests, sizes: "Sizes") -> Figures:
    """Small requests with huge ones among them, and without."""
    small = {"small": Group(requests.bodies["short"], SMALL_CONNECTIONS)}
    huge = {"huge": Group(requests.bodies["huge"], HUGE_CONNECTIONS)}
    tallies: list[Tally] = []

    def p99(groups: Mapping[str, Group]) -> float:
        outcome = ours.load(groups, sizes.mixed_seconds)
        tallies.extend(answered(tally) for name, tally in outcome.groups.items() if name == "huge")
        return percentile(answered(outcome.groups["small"]), 99)

    sides = {"without": partial(p99, small), "with": partial(p99, small | huge)}
    measured = in_turn("p99 of small requests, ms", sides, sizes.rounds)
    return {
        "p99_mixed_ratio": over_rounds(truediv, measured["with"], measured["without"]),
        "p99_mixed_ms_with": statistics.median(measured["with"]),
        "p99_mixed_ms_without": statistics.median(measured["without"]),
        "mixed_huge_seconds": statistics.median(latency for tally in tallies for latency in tally.latencies),
    }


def overload(ours: Server, requests: Requests, sizes: "Sizes") -> Figures:
    """Five times what the server can do, for a minute."""
    bodies = requests.bodies["batch32"]
    busy = answered(ours.load({"all": Group(bodies, CONNECTIONS)}, sizes.peak_seconds).groups["all"])
    peak = len(busy.latencies) / busy.seconds
    group = Group(bodies, rate=OVERLOAD * peak)
    print(f"overload: {group.rate:.1f} requests/s for {sizes.overload_seconds:g} s", flush=True)
    with memory_watched(ours) as memory:
        outcome = ours.load({"all": group}, sizes.overload_seconds, probe=requests.bodies["one"])
    tally = outcome.groups["all"]
    refused = {status: count for status, count in tally.statuses.items() if status != "200"}
    return {
        "overload_goodput": tally.in_time / sizes.overload_seconds / peak,
        "overload_peak_texts_per_second": TEXTS_EACH * peak,
        "overload_good_texts_per_second": TEXTS_EACH * tally.in_time / sizes.overload_seconds,
        "overload_offered_texts_per_second": TEXTS_EACH * tally.sent / sizes.overload_seconds,
        "overload_answered_late": tally.statuses.get("200", 0) - tally.in_time,
        "overload_refusals": sum(refused.values()),
        "overload_refusals_other_than_429": sum(refused.values()) - refused.get("429", 0),
        "overload_refusals_without_retry_after": tally.refusals_without_retry_after,
        "overload_failures": sum(tally.failures.values()) + tally.unanswered,
        "overload_recovery_seconds": outcome.recovery_seconds or 0.0,
        "overload_generator_cores": outcome.cpu_seconds / tally.seconds,
        **_memory(memory, outcome, sizes.overload_seconds),
    }


def _memory(memory: Memory, outcome: Outcome, seconds: float) -> Figures:
    began, third = outcome.began, seconds / 3
    first = memory.peak(began, began + third)
    last = memory.peak(began + 2 * third, began + 3 * third)
    return {
        "overload_memory_growth": last / first,
        "overload_memory_mib_before": memory.peak(0, began),
        "overload_memory_mib": last,
    }


def in_turn(title: str, sides: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Return what each side measures, round by round; a first round that does not count warms up."""
    measured: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        found = {name: side() for name, side in sides.items()}
        print(f"{title}: " + ", ".join(f"{name} {value:,.4g}" for name, value in found.items()), flush=True)
        if number:
            for name, value in found.items():
                measured[name].append(value)
    return measured


def over_rounds(compare: Callable[[float, float], float], one: Sequence[float], other: Sequence[float]) -> float:
    """Return the median over rounds of a comparison of two sides."""
    return statistics.median(map(compare, one, other))


def percentile(tally: Tally, percent: float) -> float:
    """Return a percentile of latency in ms."""
    return 1000 * float(np.percentile(tally.latencies, percent))
