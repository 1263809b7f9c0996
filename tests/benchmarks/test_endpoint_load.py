"""The load generator of the endpoint benchmark, against a small server of a known behaviour."""

import asyncio
import base64
import itertools
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Barrier, BrokenBarrierError, Event, Lock, Thread, Timer

import numpy as np
import orjson
import pytest

from benchmarks.endpoint_load import PROBES, RECOVERY_SECONDS, Group, Load, Outcome, Plan, read_outcome, read_plan
from benchmarks.endpoint_requests import lowest_cosine

ROOT = Path(__file__).parents[2]

Answer = Callable[[BaseHTTPRequestHandler, bytes], None]


@pytest.fixture
def serve():
    """Serve HTTP on loopback with a function that writes each answer; gives the port."""
    servers = []

    def start(answer: Answer) -> int:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                answer(self, self.rfile.read(int(self.headers["Content-Length"])))

            def log_message(self, *arguments):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        return server.server_port

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def _reply(handler, status=200, body=b"{}", **headers):
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


@pytest.fixture
def load(tmp_path):
    """Run one group of requests, each `bodies` on its own line, and return what came back."""

    def run(port: int, bodies: Sequence[bytes], *, seconds=0.2, probe=None, samples=0, **group) -> Outcome:
        for name, lines in (("bodies", bodies), ("probe", [probe or b""])):
            (tmp_path / name).write_bytes(b"\n".join(lines))
        plan = Plan(
            "127.0.0.1",
            port,
            "/v1/embeddings",
            seconds,
            {"all": Group(str(tmp_path / "bodies"), **group)},
            samples,
            probe=str(tmp_path / "probe") if probe else None,
        )
        return asyncio.run(Load(plan).run())

    return run


def test_every_request_is_counted_once_and_its_body_arrives(serve, load):
    seen = Counter()

    def answer(handler, body):
        seen[handler.path, handler.headers["Content-Type"], body] += 1
        _reply(handler)

    tally = load(serve(answer), [b'{"a": 1}', b'{"b": 2}'], connections=3).groups["all"]
    assert tally.sent == sum(seen.values()) == tally.statuses["200"] == len(tally.latencies) > 2
    assert set(seen) == {("/v1/embeddings", "application/json", body) for body in (b'{"a": 1}', b'{"b": 2}')}
    assert not tally.failures


def test_a_closed_group_keeps_all_its_connections_under_way_and_no_more(serve, load):
    inside, most = 0, 0
    lock, all_there = Lock(), Barrier(4)

    def answer(handler, body):
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        with suppress(BrokenBarrierError):
            all_there.wait(timeout=5)
        with lock:
            inside -= 1
        _reply(handler)

    load(serve(answer), [b"{}"], connections=4, seconds=0.1)
    assert most == 4


def test_a_connection_is_kept_alive(serve, load):
    ports = set()

    def answer(handler, body):
        ports.add(handler.client_address[1])
        _reply(handler)

    tally = load(serve(answer), [b"{}"], connections=2).groups["all"]
    assert tally.sent > len(ports) == 2


def test_an_answer_in_chunks_is_put_together(serve, load):
    def answer(handler, body):
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        for piece in (b"[1,", b"2]", b""):
            handler.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))

    tally = load(serve(answer), [b"{}"], samples=1).groups["all"]
    assert tally.samples == {"0": "[1,2]"}


def test_only_the_first_requests_are_sampled(serve, load):
    tally = load(serve(lambda handler, body: _reply(handler, body=body)), [b"0", b"1", b"2"], samples=2)
    assert tally.groups["all"].samples == {"0": "0", "1": "1"}


def test_a_refusal_without_retry_after_is_told_from_one_with_it(serve, load):
    answers = {b"0": (429, {"retry_after": "1"}), b"1": (429, {}), b"2": (503, {})}

    def answer(handler, body):
        status, headers = answers[body]
        _reply(handler, status, **headers)

    tally = load(serve(answer), [b"0", b"1", b"2"], rate=30, seconds=0.1).groups["all"]
    assert tally.statuses == {"429": 2, "503": 1}
    assert tally.refusals_without_retry_after == 2
    assert tally.latencies == []


def test_an_open_group_does_not_wait_for_answers(serve, load):
    everyone = Barrier(10)

    def answer(handler, body):
        everyone.wait(timeout=30)  # nobody is answered before all have asked
        _reply(handler)

    tally = load(serve(answer), [b"{}"], rate=100, seconds=0.1).groups["all"]
    assert tally.statuses == {"200": 10}


def test_a_late_answer_is_not_in_time(serve, load):
    gate = Event()

    def answer(handler, body):
        if body == b"late":
            gate.wait(timeout=30)
        else:
            Timer(0.3, gate.set).start()
        _reply(handler)

    tally = load(serve(answer), [b"late", b"soon"], rate=20, seconds=0.1).groups["all"]
    assert (tally.statuses["200"], tally.in_time) == (2, 1)


def test_a_server_that_hangs_up_is_a_failure_and_the_next_request_goes_on(serve, load):
    calls = itertools.count()

    def answer(handler, body):
        if next(calls) % 2:
            handler.close_connection = True
        else:
            _reply(handler)

    tally = load(serve(answer), [b"{}"], connections=1).groups["all"]
    assert tally.failures["ConnectionError"] >= 1
    assert tally.statuses["200"] >= 2


def test_nobody_listening_is_a_failure(free_port, load):
    tally = load(free_port, [b"{}"], rate=20, seconds=0.1).groups["all"]
    assert tally.failures == {"ConnectionRefusedError": 2}


def test_what_is_no_http_is_a_failure(serve, load):
    def answer(handler, body):
        handler.wfile.write(b"220 mail.example ready\r\n\r\n")

    tally = load(serve(answer), [b"{}"], rate=10, seconds=0.1).groups["all"]
    assert sum(tally.failures.values()) == 1
    assert not tally.statuses


def test_probes_say_when_a_server_is_itself_again(serve, load):
    probes, ill, slowly = itertools.count(), Event(), Event()

    def answer(handler, body):
        if body == b"load":
            ill.set()
            Timer(0.3, ill.clear).start()
        elif ill.is_set():
            return _reply(handler, 429, retry_after="1")
        elif next(probes) < PROBES:
            slowly.wait(0.02)  # so that what comes later is faster on the busiest machine
        return _reply(handler)

    outcome = load(serve(answer), [b"load"], probe=b"probe", rate=10, seconds=0.1)
    assert min(outcome.probes) > 0.02
    assert 0.1 < outcome.recovery_seconds < RECOVERY_SECONDS


def test_a_plan_and_its_outcome_travel_as_files(serve, tmp_path):
    bodies, plan_file, outcome_file = (tmp_path / name for name in ("bodies", "plan", "outcome"))
    bodies.write_bytes(b"{}")
    plan = Plan("127.0.0.1", serve(lambda handler, _: _reply(handler)), "/", 0.05, {"all": Group(str(bodies))})
    plan_file.write_bytes(orjson.dumps(plan))
    command = [sys.executable, "-m", "benchmarks.endpoint_load", str(plan_file), str(outcome_file)]
    subprocess.run(command, cwd=ROOT, check=True)
    assert read_plan(plan_file.read_bytes()) == plan
    assert read_outcome(outcome_file.read_bytes()).groups["all"].statuses["200"] >= 1


def _body(vectors):
    rows = [base64.b64encode(np.asarray(vector, "<f4")).decode() for vector in vectors]
    data = [{"index": index, "embedding": row} for index, row in enumerate(rows)]
    return orjson.dumps({"data": data[::-1]}).decode()  # clients go by the index


def test_the_lowest_cosine_is_over_all_samples():
    expected = np.eye(4, 3, dtype=np.float32) + np.float32(0.0)
    expected[3] = [0.6, 0.8, 0]
    samples = {"0": _body(expected[:2]), "1": _body([[0, 0, 1], [0.8, 0.6, 0]])}
    assert lowest_cosine(samples, expected, 2) == pytest.approx(0.96)


@pytest.mark.parametrize("vectors", [[[1, 0]], [[1, 0, 0], [0, 1, 0]], [[2, 0, 0]], [[0, 0, 0]]])
def test_vectors_of_another_shape_or_length_are_refused(vectors):
    with pytest.raises(ValueError, match="came back"):
        lowest_cosine({"0": _body(vectors)}, np.eye(3, dtype=np.float32), 1)
