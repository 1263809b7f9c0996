"""What an operator looks at: the dashboard and the scrape configuration fit what is measured."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from ray._private.ray_constants import PROMETHEUS_SERVICE_DISCOVERY_FILE

from lakebed.serve.metrics import CATALOGUE, Histogram

DEPLOY = Path(__file__).parents[2] / "deploy"
LABELS = {f"ray_{metric.name}": {*metric.labels, "replica"} for metric in CATALOGUE}
BUCKETS = {f"ray_{metric.name}_bucket" for metric in CATALOGUE if isinstance(metric, Histogram)}
OF_RAY = {"ray_serve_deployment_replica_healthy": {"deployment", "application"}}
"""What else is shown; the real server's test finds it exported."""


@pytest.fixture(scope="module")
def dashboard() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((DEPLOY / "grafana" / "lakebed-endpoint.json").read_text(encoding="utf-8"))
    return loaded


def expressions(dashboard: dict[str, Any]) -> list[Any]:
    """Every query, parsed, with Grafana's variables replaced."""
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    return [
        promql_parser.parse(text.replace("$__rate_interval", "1m").replace("$model", ".*")) for text in queries
    ]


def parts(expression: Any) -> Iterator[Any]:
    """An expression and all inside it."""
    yield expression
    inner = [getattr(expression, name, None) for name in ("lhs", "rhs", "expr", "vector_selector")]
    for part in [*inner, *getattr(expression, "args", [])]:
        if part is not None:
            yield from parts(part)


def selectors(expression: Any) -> list[Any]:
    return [part for part in parts(expression) if isinstance(part, promql_parser.VectorSelector)]


def test_every_metric_is_shown_and_no_other(dashboard: dict[str, Any]) -> None:
    shown = {selector.name for each in expressions(dashboard) for selector in selectors(each)}
    histograms = {name.removesuffix("_bucket") for name in BUCKETS}
    assert shown == (set(LABELS) - histograms) | BUCKETS | set(OF_RAY)


def test_queries_use_labels_that_their_metrics_have(dashboard: dict[str, Any]) -> None:
    for expression in expressions(dashboard):
        names = {selector.name for selector in selectors(expression)}
        for name in names:
            labels = (LABELS | OF_RAY)[name.removesuffix("_bucket")] | ({"le"} if name in BUCKETS else set())
            grouped = [part.modifier for part in parts(expression) if getattr(part, "modifier", None)]
            used = {label for modifier in grouped for label in getattr(modifier, "labels", [])}
            matched = {m.name for s in selectors(expression) if s.name == name for m in s.matchers.matchers}
            assert used | matched <= labels, expression


def test_panels_have_ids_of_their_own_and_do_not_overlap(dashboard: dict[str, Any]) -> None:
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = [place for panel in panels for place in cells(panel["gridPos"])]
    assert len(set(places)) == len(places)
    assert max(x for x, _ in places) < 24


def cells(grid: dict[str, int]) -> list[tuple[int, int]]:
    return [
        (x, y) for x in range(grid["x"], grid["x"] + grid["w"]) for y in range(grid["y"], grid["y"] + grid["h"])
    ]


def test_the_data_source_is_a_variable_everywhere(dashboard: dict[str, Any]) -> None:
    [source] = [each for each in dashboard["templating"]["list"] if each["type"] == "datasource"]
    assert (source["name"], source["query"]) == ("datasource", "prometheus")
    uids = re.findall(r'"uid": "([^"]*)"', json.dumps({**dashboard, "uid": "${datasource}"}))
    assert set(uids) == {"${datasource}"}


def test_rows_follow_a_request_and_titles_are_unique(dashboard: dict[str, Any]) -> None:
    rows = [panel["title"] for panel in dashboard["panels"] if panel["type"] == "row"]
    assert rows[:5] == ["Traffic", "Latency", "Stages", "Batches", "Queue"]
    titles = [panel["title"] for panel in dashboard["panels"]]
    assert len(set(titles)) == len(titles)
    assert all(panel["targets"] for panel in dashboard["panels"] if panel["type"] != "row")


def test_prometheus_keeps_what_is_shown_and_finds_a_cluster_where_ray_lists_it() -> None:
    jobs = yaml.safe_load((DEPLOY / "prometheus.yml").read_text(encoding="utf-8"))["scrape_configs"]
    for job in jobs:
        [keep] = [rule for rule in job["metric_relabel_configs"] if rule["action"] == "keep"]
        assert all(re.fullmatch(keep["regex"], name) for name in [*LABELS, *BUCKETS, *OF_RAY])
    [files] = [each["files"] for job in jobs for each in job.get("file_sd_configs", [])]
    assert files == [f"/tmp/ray/{PROMETHEUS_SERVICE_DISCOVERY_FILE}"]
