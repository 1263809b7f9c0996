"""What a real server tells its operator: metrics through Ray's exporter and logs, and what it keeps to itself."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.waiting import wait_until

from lakebed.platform.config.serve import Limits, ServeConfig
from lakebed.serve.metrics import CATALOGUE
from lakebed.serve.ports import free_port
from lakebed.serve.process import running_server
from lakebed.serve.store.database import open_database
from lakebed.serve.store.keys import create_key

MARKER = "zyzzyva"
FAULTY_ENCODER = """
from lakebed.platform.encoder.fake import FakeEncoder

class Faulty(FakeEncoder):
    def __init__(self):
        super().__init__(8)
        object.__setattr__(self, "texts", [])

    def prepare(self, items):
        self.texts.extend(item.text or "" for item in items)
        self.fail("in prepare", items[0].text)
        return super().prepare(items)

    def forward(self, work):
        self.fail("in forward", self.texts[-1] if self.texts else None)
        return super().forward(work)

    def fail(self, where, text):
        if text and where in text:
            raise ValueError(f"cannot digest {text!r}")
"""


@dataclass(frozen=True)
class Observed:
    """A server with everything on: where it answers, a key and its secret, its home."""

    url: str
    metrics: str
    secret: str
    key_id: str
    home: Path

    def ask(self, value: object, **headers: str) -> httpx.Response:
        body = value if isinstance(value, bytes) else json.dumps(value).encode()
        headers = {"authorization": f"Bearer {self.secret}", **headers}
        return httpx.post(f"{self.url}/v1/embeddings", content=body, headers=headers, trust_env=False, timeout=60)

    def scrape(self) -> str:
        return httpx.get(self.metrics, trust_env=False, timeout=60).text

    def logs(self) -> Path:
        """Ray's folder of this server's logs; every metric says the name of the session."""
        [session] = {
            sample.labels["SessionName"]
            for family in text_string_to_metric_families(self.scrape())
            for sample in family.samples
            if "SessionName" in sample.labels
        }
        return Path("/tmp/ray") / session / "logs"

    def answered(self) -> list[dict[str, object]]:
        """The lines of answered requests."""
        [path] = (self.logs() / "serve").glob("access_*.log")
        return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def observed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Observed]:
    home = tmp_path_factory.mktemp("observed")
    (home / "faulty.py").write_text(FAULTY_ENCODER)
    store = f"sqlite:///{home / 'keys.db'}"
    engine = open_database(store)
    secret, key = create_key(engine, "operator")
    engine.dispose()
    config = ServeConfig(
        port=free_port(),
        metrics_port=free_port(),
        models={"fake": "fake:64", "faulty": "faulty:Faulty"},
        key_store=store,
        cache_bytes=2**20,
        limits=Limits(max_body_bytes=100_000),
    )
    environment = {**os.environ, "LAKEBED_HOME": str(home), "RAY_metrics_report_interval_ms": "1000"}
    environment["PYTHONPATH"] = os.pathsep.join([str(home), *os.environ.get("PYTHONPATH", "").split(os.pathsep)])
    with running_server(config, environment=environment) as url:
        yield Observed(url, f"http://127.0.0.1:{config.metrics_port}/metrics", secret, key.id, home)


def test_prometheus_gets_what_was_measured(observed: Observed) -> None:
    for _ in range(3):
        assert observed.ask({"model": "fake", "input": ["one", "two words"]}).status_code == 200
    assert observed.ask({"model": "fake", "input": []}).status_code == 400

    def samples() -> dict[tuple[str, ...], float]:
        found = {}
        for family in text_string_to_metric_families(observed.scrape()):
            for sample in family.samples:
                if sample.name.startswith("ray_lakebed_"):
                    labels = [sample.labels[name] for name in ("model", "status", "code") if name in sample.labels]
                    found[sample.name, *labels] = sample.value
        return found

    wait_until(lambda: ("ray_lakebed_refused_total", "empty_input") in samples())
    wait_until(lambda: samples().get(("ray_lakebed_requests_total", "fake", "200")) == 3)
    found = samples()
    assert found["ray_lakebed_items_total", "fake"] == 6
    assert found["ray_lakebed_cache_hits_total",] == 4
    assert found["ray_lakebed_request_seconds_count", "fake"] == 3
    assert found["ray_lakebed_queued_tokens",] == found["ray_lakebed_queued_requests",] == 0
    assert found["ray_lakebed_cache_bytes",] > 0
    names = {
        name.removesuffix(end) for name, *_ in found for end in ("_bucket", "_count", "_sum") if name.endswith(end)
    }
    names |= {name for name, *_ in found if not name.endswith(("_bucket", "_count", "_sum"))}
    assert names <= {f"ray_{metric.name}" for metric in CATALOGUE}
    wait_until(lambda: "ray_serve_deployment_replica_healthy{" in observed.scrape())  # set every ten seconds


def test_every_answer_is_a_line_with_the_id_of_its_header(observed: Observed) -> None:
    answers = [
        observed.ask({"model": "fake", "input": "x"}),
        observed.ask({"model": "fake", "input": "x"}, **{"x-request-id": "mine"}),
        observed.ask(b"{"),
        httpx.get(f"{observed.url}/nowhere", trust_env=False),
    ]
    ids = [answer.headers["x-request-id"] for answer in answers]
    assert ids[1] == "mine"
    wait_until(lambda: {line["request_id"] for line in observed.answered()} >= set(ids))
    lines = {line["request_id"]: line for line in observed.answered()}
    seen = [(lines[i]["status"], lines[i]["code"], lines[i]["key_id"], lines[i]["route"]) for i in ids]
    assert seen == [
        (200, "", observed.key_id, "/v1/embeddings"),
        (200, "", observed.key_id, "/v1/embeddings"),
        (400, "invalid_json", observed.key_id, "/v1/embeddings"),
        (404, "not_found", "", "none"),
    ]


def test_no_log_holds_what_was_sent_or_a_secret(observed: Observed) -> None:
    faults = [
        {"model": "fake", "input": [MARKER, {"text": MARKER}]},
        {"model": MARKER, "input": MARKER},
        {"model": "faulty", "input": f"{MARKER} in prepare"},
        {"model": "faulty", "input": f"{MARKER} in forward"},
        {"model": "fake", "input": {"text": MARKER, MARKER: 1}},
        {"model": "fake", "input": [{"time_series": [[MARKER]]}]},
        {"model": "fake", "input": MARKER, "dimensions": MARKER, "encoding_format": MARKER},
        {"model": "fake", "input": f"{MARKER} " * 300},
        f'{{"model": "fake", "input": "{MARKER}'.encode(),
        MARKER.encode() * 20_000,
    ]
    answers = [observed.ask(fault) for fault in faults]
    assert [answer.status_code for answer in answers] == [200, 404, 500, 500, 400, 400, 400, 400, 400, 413]
    wrong_key = observed.ask({"model": "fake", "input": "x"}, authorization=f"Bearer {MARKER}")
    lost = httpx.get(f"{observed.url}/{MARKER}?{MARKER}={MARKER}", trust_env=False)
    httpx.request(MARKER.upper(), observed.url, trust_env=False)  # answered before it reaches us
    ids = {answer.headers["x-request-id"] for answer in [*answers, wrong_key, lost]}
    wait_until(lambda: {line["request_id"] for line in observed.answered()} >= ids)
    texts = {path: path.read_text(errors="replace") for path in observed.logs().rglob("*") if path.is_file()}
    assert any("ValueError (words left out)" in text for text in texts.values())
    assert not [path for path, text in texts.items() if MARKER in text.lower() or observed.secret in text]


def test_serve_s_own_logs_are_json_lines(observed: Observed) -> None:
    files = list((observed.logs() / "serve").glob("*.log"))
    assert {path.name.partition("_")[0] for path in files} == {"access", "controller", "proxy", "replica"}
    for path in files:
        assert all(isinstance(json.loads(line), dict) for line in path.read_text().splitlines())


def test_a_server_on_loopback_is_reached_from_nowhere_else(observed: Observed) -> None:
    """Ray's daemons and exporters too. One port of Serve's has no setting; it asks for the cluster's token."""
    elsewhere = []
    for process in psutil.process_iter(["environ", "cmdline"]):
        if (process.info["environ"] or {}).get("LAKEBED_HOME") == str(observed.home):
            for connection in process.net_connections("tcp"):
                address = connection.laddr.ip.removeprefix("::ffff:")
                if connection.status == psutil.CONN_LISTEN and address not in ("127.0.0.1", "::1"):
                    elsewhere.append(process.info["cmdline"][0])
    assert elsewhere == ["ray::ServeReplica:lakebed:endpoint"]
