"""Charts of reports as inline SVG: drawn with CSS classes, so that they follow light and dark, and with words for
those who do not see them.

Knows numbers and labels, no models. Every text is escaped here; what comes back is safe to put into a page.
"""

import io
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from markupsafe import Markup, escape

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_BAR_WIDTH: Final = 220
_BAR_HEIGHT: Final = 18
_WIDTH, _LEFT, _RIGHT, _TOP, _BOTTOM = 640, 64, 40, 16, 56
_PLOT_HEIGHT: Final = 220
_ROW: Final = 24
_TICKS: Final = 5
_LONGEST: Final = 28


@dataclass(frozen=True)
class Series:
    """One model's values over the places of a chart; None where it has none. `bounds` are their intervals."""

    letter: str
    label: str
    values: Sequence[float | None]
    bounds: Sequence[tuple[float, float] | None] = ()


def interval_bar(delta: float, low: float | None, high: float | None, limit: float, *, good: str) -> Markup:
    """A difference with its interval on a scale from -limit to limit, zero amid; `good` is a CSS class."""
    middle = _BAR_WIDTH / 2
    scale = (middle - 6) / (limit or 1)

    def place(value: float) -> str:
        return f"{middle + max(-limit, min(limit, value)) * scale:.1f}"

    y = _BAR_HEIGHT / 2
    parts = [_line(middle, 0, middle, _BAR_HEIGHT, "zero")]
    if low is not None and high is not None:
        parts.append(_line(place(low), y, place(high), y, "whisker"))
        parts += [_line(place(end), y - 4, place(end), y + 4, "whisker") for end in (low, high)]
    parts.append(Markup('<circle cx="{}" cy="{}" r="4"/>').format(place(delta), y))
    said = f"difference {delta:+.4f}" + ("" if low is None else f", 95 % interval {low:+.4f} to {high:+.4f}")
    return _svg(parts, _BAR_WIDTH, _BAR_HEIGHT, said, f"bar {good}")


def tally_bar(wins: int, ties: int, losses: int) -> Markup:
    """Wins, ties and losses as shares of one bar."""
    total = max(1, wins + ties + losses)
    parts, left = [], 0.0
    for count, name in ((wins, "better"), (ties, "open"), (losses, "worse")):
        width = _BAR_WIDTH * count / total
        parts.append(
            Markup('<rect x="{:.1f}" y="2" width="{:.1f}" height="14" class="{}"/>').format(left, width, name)
        )
        left += width
    return _svg(parts, _BAR_WIDTH, _BAR_HEIGHT, f"{wins} won, {ties} tied, {losses} lost", "tally")


def line_chart(title: str, places: Sequence[str], series: Sequence[Series], level: float | None = None) -> Markup:
    """Values over ordered places, a line per series; a letter at each line's end names it.

    `level` is a value to compare with, such as the champion's: a dashed line across.
    """
    low, high = _range([*_values(series)])
    height = _TOP + _PLOT_HEIGHT + _BOTTOM
    step = (_WIDTH - _LEFT - _RIGHT) / max(1, len(places) - 1)
    xs = [_LEFT + index * step if len(places) > 1 else _LEFT + step / 2 for index in range(len(places))]

    def y(value: float) -> float:
        return _TOP + _PLOT_HEIGHT * (1 - (value - low) / (high - low))

    parts = [*_horizontal_grid(low, high, y)]
    if level is not None:
        parts.append(_line(_LEFT, y(level), _WIDTH - _RIGHT, y(level), "zero"))
    every = math.ceil(len(places) / 16)
    for index, (x, name) in enumerate(zip(xs, places, strict=True)):
        if index % every == 0:
            parts.append(_text(x, _TOP + _PLOT_HEIGHT + 18, _short(name), "middle"))
    for number, one in enumerate(series):
        parts.append(_one_line(number, one, xs, y))
    return _svg(parts, _WIDTH, height, f"{title}. {_described(places, series)}", "chart")


def dot_chart(title: str, rows: Sequence[str], series: Sequence[Series]) -> Markup:
    """A row per name and a dot per series, on one scale."""
    low, high = _range([*_values(series)])
    left, plot_bottom = 210, _TOP + len(rows) * _ROW

    def x(value: float) -> float:
        return left + (_WIDTH - left - _RIGHT) * (value - low) / (high - low)

    parts = []
    for tick in _ticks(low, high):
        parts += [
            _line(x(tick), _TOP, x(tick), plot_bottom, "grid"),
            _text(x(tick), plot_bottom + 18, f"{tick:.3g}", "middle"),
        ]
    for index, name in enumerate(rows):
        y = _TOP + (index + 0.5) * _ROW
        parts += [_line(left, y, _WIDTH - _RIGHT, y, "grid"), _text(left - 8, y + 4, _short(name), "end")]
        for number, one in enumerate(series):
            value = one.values[index]
            if value is not None:
                parts.append(_mark(number, x(value), y))
    return _svg(parts, _WIDTH, plot_bottom + 28, f"{title}. {_described(rows, series)}", "chart")


def from_figure(figure: "Figure", said: str) -> Markup:
    """A matplotlib figure: black becomes the page's own colour, and nothing refers to anything outside."""
    import matplotlib as mpl

    figure.set_facecolor("none")
    for axes in figure.axes:
        axes.set_facecolor("none")
    buffer = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "lakebed"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    body = text[text.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r"#000000\b|#000\b|\bblack\b", "currentColor", body)
    body = re.sub(r"<text ", '<text fill="currentColor" ', body)
    head = re.search(r'viewBox="([^"]+)"', body)
    assert head is not None
    opening = Markup('<svg class="chart" role="img" aria-label="{}" viewBox="{}">').format(said, head[1])
    return opening + Markup(re.sub(r"^<svg[^>]*>", "", body, count=1))  # noqa: S704  # drawn by matplotlib from ours


def _one_line(number: int, one: Series, xs: Sequence[float], y: Callable[[float], float]) -> Markup:
    points = [(x, y(value)) for x, value in zip(xs, one.values, strict=True) if value is not None]
    parts = [
        _line(x, y(bounds[0]), x, y(bounds[1]), "whisker")
        for x, bounds in zip(xs, one.bounds, strict=False)
        if bounds is not None
    ]
    path = " ".join(f"{x:.1f},{height:.1f}" for x, height in points)
    parts.append(Markup('<polyline points="{}"/>').format(path))
    parts += [_mark(number, x, height) for x, height in points]
    if points:
        parts.append(_text(points[-1][0] + 8, points[-1][1] + 4, one.letter, "start"))
    return Markup('<g class="s{}">{}</g>').format(number % 6, Markup("").join(parts))


def _mark(number: int, x: float, y: float) -> Markup:
    """A shape of its own for each series, so that colour is not all that tells them apart."""
    shapes = (
        '<circle class="s{n}" cx="{x:.1f}" cy="{y:.1f}" r="4"/>',
        '<rect class="s{n}" x="{left:.1f}" y="{top:.1f}" width="8" height="8"/>',
        '<path class="s{n}" d="M{x:.1f} {top:.1f} l4.5 8 h-9 z"/>',
        '<path class="s{n}" d="M{x:.1f} {top:.1f} l4 4 l-4 4 l-4 -4 z"/>',
    )
    return Markup(shapes[number % len(shapes)]).format(n=number % 6, x=x, y=y, left=x - 4, top=y - 4)  # noqa: S704


def _horizontal_grid(low: float, high: float, y: Callable[[float], float]) -> list[Markup]:
    parts = []
    for tick in _ticks(low, high):
        parts += [
            _line(_LEFT, y(tick), _WIDTH - _RIGHT, y(tick), "grid"),
            _text(_LEFT - 8, y(tick) + 4, f"{tick:.3g}", "end"),
        ]
    return parts


def _values(series: Sequence[Series]) -> list[float]:
    found = [value for one in series for value in one.values if value is not None]
    return found + [bound for one in series for bounds in one.bounds if bounds for bound in bounds]


def _range(values: Sequence[float]) -> tuple[float, float]:
    """The values' range with a little room, never empty."""
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    room = (high - low) * 0.08 or abs(high) * 0.05 or 0.5
    return low - room, high + room


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers inside the range."""
    step = 10 ** math.floor(math.log10((high - low) / _TICKS))
    step = next(step * factor for factor in (1, 2, 5, 10) if (high - low) / (step * factor) <= _TICKS)
    return [number * step for number in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _described(places: Sequence[str], series: Sequence[Series]) -> str:
    """The numbers as a sentence, for those who hear the page."""
    return "; ".join(
        f"{one.letter}: "
        + ", ".join(
            f"{place} {value:.4g}" for place, value in zip(places, one.values, strict=True) if value is not None
        )
        for one in series
    )


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"


def _line(x1: object, y1: object, x2: object, y2: object, name: str) -> Markup:
    return Markup('<line x1="{}" y1="{}" x2="{}" y2="{}" class="{}"/>').format(
        *(f"{value:.1f}" if isinstance(value, float) else value for value in (x1, y1, x2, y2)), name
    )


def _text(x: float, y: float, text: str, anchor: str) -> Markup:
    return Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(x, y, anchor, text)


def _svg(parts: Sequence[Markup], width: float, height: float, said: str, name: str) -> Markup:
    return Markup('<svg class="{}" role="img" aria-label="{}" viewBox="0 0 {} {}">{}</svg>').format(
        name, said, width, height, Markup("").join(escape(part) for part in parts)
    )
