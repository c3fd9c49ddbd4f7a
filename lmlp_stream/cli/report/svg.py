"""Plots as inline SVG: two scales, axes, and the few marks a report needs; colours come from the page's style."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape
from math import ceil, floor, log10

Point = tuple[float, float]

MARGIN_LEFT = 62.0
MARGIN_RIGHT = 16.0
MARGIN_TOP = 14.0
MARGIN_BOTTOM = 46.0


@dataclass(frozen=True, slots=True)
class Scale:
    """A range of values, linear or logarithmic, and how its axis is called.

    Attributes:
        low: Smallest value shown; positive for a logarithmic scale.
        high: Largest value shown, above `low`.
        label: Quantity and unit.
        logarithmic: Whether equal ratios take equal lengths.
    """

    low: float
    high: float
    label: str
    logarithmic: bool = False

    def share(self, value: float) -> float:
        """Place of a value between 0 (low) and 1 (high); values outside are moved to the nearer end."""
        value = min(max(value, self.low), self.high)
        if self.logarithmic:
            return log10(value / self.low) / log10(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def ticks(self) -> list[float]:
        """Round values inside the range, about five."""
        if self.logarithmic:
            return self._logarithmic_ticks()
        step = _round_step((self.high - self.low) / 5.0)
        first = ceil(self.low / step - 1e-9)
        return [number * step for number in range(first, floor(self.high / step + 1e-9) + 1)]

    def _logarithmic_ticks(self) -> list[float]:
        decades = range(floor(log10(self.low)), ceil(log10(self.high)) + 1)
        wide = self.high / self.low > 1e3
        candidates = [digit * 10.0**decade for decade in decades for digit in ((1,) if wide else (1, 2, 5))]
        return [value for value in candidates if self.low * 0.999 <= value <= self.high * 1.001]


def fitted(values: Iterable[float], label: str, *, logarithmic: bool = False, zero: bool = False) -> Scale:
    """A scale that shows all values with a little room; `zero` makes it begin at zero."""
    known = [value for value in values if value == value and (value > 0.0 or not logarithmic)]
    low, high = (min(known), max(known)) if known else (1.0, 2.0)
    if logarithmic:
        return Scale(low / 1.3, high * 1.3, label, logarithmic=True)
    if zero:
        low = 0.0
    room = 0.04 * (high - low) or 0.5
    return Scale(0.0 if zero else low - room, high + room, label)


def format_number(value: float) -> str:
    """A short decimal form: 0.05, 1.2, 350, 1,200."""
    if value == 0:
        return "0"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) >= 1e-3 else f"{value:.0e}"


@dataclass(slots=True)
class Plot:
    """One figure that is drawn mark by mark.

    Attributes:
        x: Horizontal scale.
        y: Vertical scale.
        title: What a screen reader says.
        width: Width in user units; the page stretches it to its column.
        height: Height in user units.
    """

    x: Scale
    y: Scale
    title: str
    width: float = 560.0
    height: float = 330.0
    _marks: list[str] = field(default_factory=list)

    def at(self, x: float, y: float) -> Point:
        """Place of a pair of values in user units."""
        inner_width = self.width - MARGIN_LEFT - MARGIN_RIGHT
        inner_height = self.height - MARGIN_TOP - MARGIN_BOTTOM
        return MARGIN_LEFT + self.x.share(x) * inner_width, MARGIN_TOP + (1.0 - self.y.share(y)) * inner_height

    def line(self, points: Sequence[Point], style: str) -> None:
        """A line through the points."""
        if points:
            self._marks.append(f'<polyline class="line {style}" points="{self._path(points)}"/>')

    def area(self, points: Sequence[Point], style: str) -> None:
        """The area between a line and the bottom of the plot."""
        if points:
            closed = [(points[0][0], self.y.low), *points, (points[-1][0], self.y.low)]
            self._marks.append(f'<polygon class="area {style}" points="{self._path(closed)}"/>')

    def dots(self, points: Iterable[Point], style: str, *, radius: float = 2.4, titles: Sequence[str] = ()) -> None:
        """A dot at each point, with a text that appears under the pointer."""
        for index, (x, y) in enumerate(points):
            left, top = self.at(x, y)
            title = f"<title>{escape(titles[index])}</title>" if titles else ""
            self._marks.append(
                f'<circle class="dot {style}" cx="{left:.1f}" cy="{top:.1f}" r="{radius}"'
                + (f">{title}</circle>" if title else "/>")
            )

    def rule(self, x: float, style: str, *, title: str = "") -> None:
        """A vertical line over the whole height."""
        left, top = self.at(x, self.y.high)
        _, bottom = self.at(x, self.y.low)
        self._marks.append(
            f'<line class="rule {style}" x1="{left:.1f}" y1="{top:.1f}" x2="{left:.1f}" y2="{bottom:.1f}">'
            f"<title>{escape(title)}</title></line>"
        )

    def note(self, x: float, y: float, text: str, *, style: str = "", anchor: str = "start", dy: float = 0.0) -> None:
        """A short text at a place."""
        left, top = self.at(x, y)
        self._marks.append(
            f'<text class="note {style}" x="{left:.1f}" y="{top + dy:.1f}" text-anchor="{anchor}">{escape(text)}</text>'
        )

    def render(self, *, y_labels: Sequence[tuple[float, str]] | None = None) -> str:
        """The figure as one `<svg>` element; `y_labels` replaces the numbers of the vertical axis."""
        axes = self._x_axis() + self._y_axis(y_labels)
        return (
            f'<svg viewBox="0 0 {self.width:g} {self.height:g}" role="img" aria-label="{escape(self.title)}">'
            f"{axes}{''.join(self._marks)}</svg>"
        )

    def _path(self, points: Iterable[Point]) -> str:
        return " ".join(f"{left:.1f},{top:.1f}" for left, top in (self.at(x, y) for x, y in points))

    def _x_axis(self) -> str:
        bottom = self.height - MARGIN_BOTTOM
        parts = []
        for value in self.x.ticks():
            left, _ = self.at(value, self.y.low)
            number = format_number(value)
            parts.append(
                f'<line class="grid" x1="{left:.1f}" y1="{MARGIN_TOP}" x2="{left:.1f}" y2="{bottom}"/>'
                f'<text class="tick" x="{left:.1f}" y="{bottom + 17}" text-anchor="middle">{number}</text>'
            )
        middle = (MARGIN_LEFT + self.width - MARGIN_RIGHT) / 2.0
        parts.append(
            f'<text class="axis" x="{middle:.1f}" y="{self.height - 8}" text-anchor="middle">'
            f"{escape(self.x.label)}</text>"
        )
        return "".join(parts)

    def _y_axis(self, labels: Sequence[tuple[float, str]] | None) -> str:
        right = self.width - MARGIN_RIGHT
        parts = []
        for value, text in labels or [(value, format_number(value)) for value in self.y.ticks()]:
            _, top = self.at(self.x.low, value)
            parts.append(
                f'<line class="grid" x1="{MARGIN_LEFT}" y1="{top:.1f}" x2="{right}" y2="{top:.1f}"/>'
                f'<text class="tick" x="{MARGIN_LEFT - 8}" y="{top + 4:.1f}" text-anchor="end">{escape(text)}</text>'
            )
        middle = (MARGIN_TOP + self.height - MARGIN_BOTTOM) / 2.0
        parts.append(
            f'<text class="axis" transform="translate(14 {middle:.1f}) rotate(-90)" text-anchor="middle">'
            f"{escape(self.y.label)}</text>"
        )
        return "".join(parts)


def sparkline(values: Sequence[float], *, width: float = 120.0, height: float = 24.0) -> str:
    """A small line without axes, logarithmic, for a row of a table."""
    known = [value for value in values if value > 0]
    if len(known) < 2:
        return ""
    scale = fitted(known, "", logarithmic=True)
    points = " ".join(
        f"{2 + index * (width - 4) / (len(known) - 1):.1f},{2 + (1 - scale.share(value)) * (height - 4):.1f}"
        for index, value in enumerate(known)
    )
    return (
        f'<svg class="spark" viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}" '
        f'aria-hidden="true"><polyline class="line first" points="{points}"/></svg>'
    )


def _round_step(size: float) -> float:
    power = 10.0 ** floor(log10(size))
    return next(digit * power for digit in (1.0, 2.0, 2.5, 5.0, 10.0) if size <= digit * power * 1.0001)
