"""The report, as text and in a real browser."""

import html
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest
from tests.eval.hand_made import HOSTILE, comparison, ranking

from lakebed.eval.charts import Series, dot_chart, line_chart
from lakebed.eval.report import comparison_report, publish, ranking_report
from lakebed.platform.errors import ConfigError
from lakebed.platform.tracking import Tracking

FRAME = """<!DOCTYPE html><iframe width="{width}" height="900" srcdoc="{page}"></iframe><script>
const frame = document.querySelector("iframe");
frame.onload = () => {{
  const page = frame.contentDocument, root = page.documentElement;
  const shown = [...page.querySelectorAll("table, svg")].filter(one => one.closest("details") === null);
  document.title = JSON.stringify({{
    overflow: root.scrollWidth - root.clientWidth,
    empty: shown.filter(one => one.getBoundingClientRect().height < 10).length,
    tables: shown.filter(one => one.tagName === "TABLE").length,
    requests: frame.contentWindow.performance.getEntriesByType("resource").length,
  }});
}};
</script>"""
"""Puts a page into a frame as wide as a telephone, and writes into the title what it measures there."""


def references(page: str) -> list[str]:
    """Everything that a page's elements refer to."""
    found = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
            found.extend(
                value or "" for name, value in attributes if name in ("src", "href", "xlink:href", "data")
            )

    Reader().feed(page)
    return found


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    hostile = ranking((0.80, 0.84, 0.90), hostile=True)
    return {"two": comparison_report(comparison(hostile=True)), "three": ranking_report(hostile)}


@pytest.mark.parametrize("kind", ["two", "three"])
def test_the_report_is_seen_whole_on_a_telephone_and_asks_for_nothing(
    pages: dict[str, str], kind: str, page_in_a_browser: Callable[[str], str], tmp_path: Path
) -> None:
    framed = tmp_path / "framed.html"
    framed.write_text(FRAME.format(width=400, page=html.escape(pages[kind])), encoding="utf-8")
    title = re.search(r"<title>(.*?)</title>", page_in_a_browser(framed.as_uri()))
    assert title is not None
    found = html.unescape(title[1])
    assert '"overflow":0,"empty":0,' in found
    assert '"requests":0' in found
    assert '"tables":0' not in found


def test_the_report_is_a_picture_without_complaints(
    pages: dict[str, str], picture_in_a_browser: Callable[[Path, Path], str], tmp_path: Path
) -> None:
    from matplotlib.image import imread

    page, picture = tmp_path / "report.html", tmp_path / "report.png"
    page.write_text(pages["three"], encoding="utf-8")
    assert "CONSOLE" not in picture_in_a_browser(page, picture)
    pixels = imread(picture)
    assert pixels.shape[:2] == (1600, 1000)
    assert 0.05 < pixels[..., :3].std() < 0.5  # neither blank nor noise


def test_nothing_of_a_user_becomes_markup(pages: dict[str, str]) -> None:
    for page in pages.values():
        assert "<script" not in page
        assert "<img" not in page
        assert html.escape(HOSTILE, quote=False).replace('"', "&#34;") in page
        assert {value for value in references(page) if not value.startswith("#")} == {"data:,"}


def test_a_comparison_shows_every_part(pages: dict[str, str]) -> None:
    for heading in (
        *("In short", "By data set", "By dimensions", "Under perturbations", "Examples that changed most"),
        *("Costs", "What was measured", "Notes", "Every figure"),
    ):
        assert f"<h2>{heading}</h2>" in pages["two"], heading
    assert "noise_0.5" in pages["two"]
    assert "example 1 of" in pages["two"]
    assert "Holm-corrected" in pages["two"]
    assert "Critical-difference diagram" in pages["three"]


def test_every_table_has_headers_and_every_picture_words(pages: dict[str, str]) -> None:
    for page in pages.values():
        assert page.count("<table>") == page.count("<thead>")
        assert all('role="img" aria-label="' in svg for svg in re.findall(r"<svg[^>]*>", page))
        assert page.startswith("<!DOCTYPE html>\n<html lang=")


def test_a_hundred_data_sets_are_a_hundred_rows() -> None:
    page = comparison_report(comparison(sets=100))
    assert len(re.findall(r'<tr><th scope="row">DataSet099</th>', page)) >= 2


def test_the_same_comparison_gives_the_same_report() -> None:
    assert ranking_report(ranking((0.8, 0.8, 0.9), sets=3)) == ranking_report(ranking((0.8, 0.8, 0.9), sets=3))


def test_a_report_is_kept_in_a_run_of_its_own(mlflow_database: str, tmp_path: Path) -> None:
    tracking, result = Tracking(mlflow_database), comparison(sets=2)
    run_id = publish(result, tmp_path / "report.html", tracking)
    assert tracking.artifacts(run_id) == ["figures.json", "report.html"]
    logged = tracking.latest("lakebed-compare", {"lakebed.compared_a": result.runs[0].id})
    assert logged is not None
    assert logged.metrics["mean/classification/knn_accuracy/delta"] == pytest.approx(
        result.mean("mean/classification/knn_accuracy").interval.delta
    )
    with pytest.raises(ConfigError, match="cannot be written"):
        publish(result, tmp_path / "no" / "report.html", tracking)


def test_charts_of_one_place_of_nothing_and_of_equal_values_are_drawn() -> None:
    assert "polyline" in line_chart("one", ["1"], [Series("A", "A", [0.5])])
    assert "polyline" in line_chart("none", ["1", "2"], [Series("A", "A", [None, None])])
    assert (
        dot_chart("equal", ["x", "y"], [Series("A", "A", [0.5, 0.5]), Series("B", "B", [0.5, None])]).count(
            'class="s1"'
        )
        == 1
    )
