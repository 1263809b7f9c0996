"""Sends HTTP load and measures what comes back, in a process of its own.

    python -m benchmarks.endpoint_load PLAN.json OUTCOME.json

Requests are built beforehand and answers are only kept where a sample was asked for, so that the load takes little
from the cores it shares with the server. A closed group sends its next request when an answer has come, until the
time is up, and then waits for what is under way: rates are of all answers over the whole time. An open group sends
at its rate whatever comes back, on as many connections as that takes, and latency counts from when a request was
due. Knows HTTP/1.1, but neither embeddings nor servers.
"""

import asyncio
import itertools
import math
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httptools
import orjson
import uvloop

PROBES = 50
FAST_IN_A_ROW = 3
PROBE_PAUSE_SECONDS = 0.02
RECOVERY_SECONDS = 120.0
MOST_CONNECTIONS = 4000


@dataclass(frozen=True)
class Group:
    """Requests of one kind: a file of JSON bodies, one a line, sent in turn. `rate` (per second) makes it open."""

    bodies: str
    connections: int = 1
    rate: float | None = None


@dataclass(frozen=True)
class Plan:
    """What to send where, for how long.

    The first `samples` requests of a group have their answers kept. An answer counts as in time within `in_time`
    seconds of when it was due, and before the time is up. `probe` names a body that is sent alone before the load,
    and again after it until it is as fast as before.
    """

    host: str
    port: int
    path: str
    seconds: float
    groups: dict[str, Group]
    samples: int = 0
    in_time: float = 5.0
    drain_seconds: float = 120.0
    probe: str | None = None


@dataclass
class Tally:
    """What came back for one group. `seconds` lasts until the last answer; `latencies` are of successes only."""

    sent: int = 0
    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    refusals_without_retry_after: int = 0
    in_time: int = 0
    unanswered: int = 0
    samples: dict[str, str] = field(default_factory=dict)


@dataclass
class Outcome:
    """The tallies, the sender's processor time, when it began by the monotonic clock, what the probes found."""

    groups: dict[str, Tally]
    cpu_seconds: float = 0.0
    began: float = 0.0
    probes: list[float] = field(default_factory=list)
    recovery_seconds: float | None = None


@dataclass(frozen=True)
class Response:
    """A whole answer; header names are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def succeeded(self) -> bool:
        """Whether it holds what was asked for."""
        return self.status in (200, 201)


class Connection(asyncio.Protocol):
    """One kept-alive connection with one request under way at most."""

    def __init__(self) -> None:
        self.is_open = False

    @classmethod
    async def to(cls, host: str, port: int) -> "Connection":
        """Connect; raises OSError."""
        _, connection = await asyncio.get_running_loop().create_connection(cls, host, port)
        return connection

    async def exchange(self, request: bytes) -> Response:
        """Send one request and wait for its answer; raises ConnectionError, or HttpParserError for no HTTP."""
        if not self.is_open:
            raise ConnectionError("closed between requests")
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answer

    def close(self) -> None:
        """Hang up."""
        self._transport.close()

    def connection_made(self, transport: Any) -> None:
        """Begin."""
        self._transport = transport
        self._answer: asyncio.Future[Response] = asyncio.get_running_loop().create_future()
        self.is_open = True
        self._begin()

    def connection_lost(self, error: Exception | None) -> None:
        """Fail what is under way."""
        self.is_open = False
        self._fail(ConnectionError(str(error or "closed by the server")))

    def data_received(self, data: bytes) -> None:
        """Parse."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(error)
            self.close()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header."""
        self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, chunk: bytes) -> None:
        """Keep a piece."""
        self._chunks.append(chunk)

    def on_message_complete(self) -> None:
        """Hand the answer over. Interim answers (1xx) are none."""
        status = self._parser.get_status_code()
        if status < 200:
            self._headers, self._chunks = {}, []
            return
        response = Response(status, self._headers, b"".join(self._chunks))
        if not self._parser.should_keep_alive():
            self.is_open = False
            self.close()
        self._begin()
        if not self._answer.done():
            self._answer.set_result(response)

    def _begin(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._headers: dict[str, str] = {}
        self._chunks: list[bytes] = []

    def _fail(self, error: Exception) -> None:
        if not self._answer.done():
            self._answer.set_exception(error)
            self._answer.exception()  # an idle connection has nobody who would ask


class Load:
    """Runs one plan."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.tallies = {name: Tally() for name in plan.groups}
        self._ends = 0.0

    async def run(self) -> Outcome:
        """Send everything; returns when every answer has come or the drain is over."""
        outcome = Outcome(self.tallies)
        if self.plan.probe:
            outcome.probes = [await self._probe() for _ in range(PROBES)]
        before, began = time.process_time(), _now()
        self._ends = began + self.plan.seconds
        outcome.began = began
        tasks = [asyncio.create_task(self._group(name, group, began)) for name, group in self.plan.groups.items()]
        if self.plan.probe:
            await asyncio.sleep(self.plan.seconds)
            outcome.recovery_seconds = await self._recovery(outcome.probes)
        await asyncio.gather(*tasks)
        outcome.cpu_seconds = time.process_time() - before
        return outcome

    async def _group(self, name: str, group: Group, began: float) -> None:
        requests = self._requests(group.bodies)
        send = self._closed if group.rate is None else self._open
        await send(self.tallies[name], group, requests)
        self.tallies[name].seconds = _now() - began

    async def _closed(self, tally: Tally, group: Group, requests: Sequence[bytes]) -> None:
        indices = itertools.cycle(range(len(requests)))
        workers = [self._worker(tally, requests, indices) for _ in range(group.connections)]
        await asyncio.gather(*workers)

    async def _worker(self, tally: Tally, requests: Sequence[bytes], indices: Iterator[int]) -> None:
        connection: Connection | None = None
        while (due := _now()) < self._ends:
            index = next(indices)
            connection = await self._send(tally, requests[index], index, due, connection)
        if connection:
            connection.close()

    async def _open(self, tally: Tally, group: Group, requests: Sequence[bytes]) -> None:
        """Send on a free connection, or on a new one while there may be more."""
        assert group.rate
        began = _now()
        free: list[Connection] = []
        under_way: set[asyncio.Task[None]] = set()

        async def one(index: int, due: float) -> None:
            used = await self._send(tally, requests[index], index, due, free.pop() if free else None)
            if used:
                free.append(used)

        for number in range(round(group.rate * self.plan.seconds)):
            due = began + number / group.rate
            if (wait := due - _now()) > 0:
                await asyncio.sleep(wait)
            if len(under_way) >= MOST_CONNECTIONS:
                tally.failures["no connection left to send on"] += 1
                continue
            task = asyncio.create_task(one(number % len(requests), due))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
        if under_way:
            _, late = await asyncio.wait(under_way, timeout=self.plan.drain_seconds)
            tally.unanswered = len(late)
            for task in late:
                task.cancel()

    async def _send(
        self, tally: Tally, request: bytes, index: int, due: float, connection: Connection | None
    ) -> Connection | None:
        """Send one request and count what comes of it; returns the connection if it can be used again."""
        tally.sent += 1
        try:
            if connection is None or not connection.is_open:
                connection = await Connection.to(self.plan.host, self.plan.port)
            response = await connection.exchange(request)
        except (OSError, httptools.HttpParserError) as error:
            tally.failures[type(error).__name__] += 1
            return None
        self._count(tally, response, index, _now() - due, due)
        return connection if connection.is_open else None

    def _count(self, tally: Tally, response: Response, index: int, latency: float, due: float) -> None:
        tally.statuses[str(response.status)] += 1
        if response.succeeded:
            tally.latencies.append(round(latency, 6))
            tally.in_time += latency <= self.plan.in_time and due + latency <= self._ends
            if index < self.plan.samples:
                tally.samples.setdefault(str(index), response.body.decode())
        elif "retry-after" not in response.headers:
            tally.refusals_without_retry_after += 1

    async def _probe(self) -> float:
        """Seconds of one request on a connection of its own; infinite for one that failed."""
        assert self.plan.probe
        (request,) = self._requests(self.plan.probe)
        began = _now()
        try:
            connection = await Connection.to(self.plan.host, self.plan.port)
            response = await connection.exchange(request)
        except OSError:
            return math.inf
        connection.close()
        return _now() - began if response.succeeded else math.inf

    async def _recovery(self, quiet: Sequence[float]) -> float:
        """Seconds from the end until the first of three probes in a row was as fast as nine in ten before."""
        fast = sorted(quiet)[int(0.9 * len(quiet))]
        answered: list[float] = []
        while len(answered) < FAST_IN_A_ROW and _now() < self._ends + RECOVERY_SECONDS:
            if await self._probe() <= fast:
                answered.append(_now())
            else:
                answered.clear()
                await asyncio.sleep(PROBE_PAUSE_SECONDS)
        return answered[0] - self._ends if len(answered) == FAST_IN_A_ROW else RECOVERY_SECONDS

    def _requests(self, bodies: str) -> list[bytes]:
        head = f"POST {self.plan.path} HTTP/1.1\r\nHost: {self.plan.host}:{self.plan.port}\r\n"
        head += "Content-Type: application/json\r\nContent-Length: "
        lines = Path(bodies).read_bytes().splitlines()
        return [head.encode() + str(len(line)).encode() + b"\r\n\r\n" + line for line in lines]


def read_plan(text: bytes) -> Plan:
    """Read a plan from its JSON; raises TypeError for a field that is not one."""
    values = orjson.loads(text)
    groups = {name: Group(**group) for name, group in values.pop("groups").items()}
    return Plan(groups=groups, **values)


def read_outcome(text: bytes) -> Outcome:
    """Read what a load printed."""
    values = orjson.loads(text)
    groups = {name: Tally(**tally) for name, tally in values.pop("groups").items()}
    return Outcome(groups=groups, **values)


def _now() -> float:
    return time.monotonic()


def main() -> None:
    """Run the plan in one file and write the outcome to another: after uvloop, a pipe may lose the end."""
    plan, outcome = map(Path, sys.argv[1:])
    outcome.write_bytes(orjson.dumps(uvloop.run(Load(read_plan(plan.read_bytes())).run())))


if __name__ == "__main__":
    main()
