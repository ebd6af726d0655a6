"""A plot of how times are distributed, as an SVG file that any browser shows."""

import math
from collections.abc import Iterator, Sequence
from html import escape

WIDTH, HEIGHT = 860, 520
LEFT, RIGHT, TOP, BOTTOM = 64, 24, 56, 110
COLOURS = ("#475569", "#0f766e", "#c2410c", "#6d28d9", "#1d4ed8", "#a16207", "#be185d", "#15803d")
HEAD = (
    f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="13">'
)
#: Seconds below which nothing is told apart.
LEAST = 0.01
#: A name for each curve, and its values at equal steps from 0 to 100 %.
Curves = Sequence[tuple[str, Sequence[float]]]


def svg(title: str, curves: Curves) -> str:
    """Which part of the requests had ended after how many seconds (logarithmic), a curve for each name."""
    values = [max(value, LEAST) for _, curve in curves for value in curve] or [1.0]
    low = math.floor(math.log10(min(values)))
    high = max(low + 1, math.ceil(math.log10(max(values))))
    return "\n".join(
        (
            HEAD,
            '<rect width="100%" height="100%" fill="#ffffff"/>',
            f'<text x="{LEFT}" y="28" font-size="16" font-weight="bold">{escape(title)}</text>',
            *axes(low, high),
            *(line for number, curve in enumerate(curves) for line in drawn(number, *curve, low, high)),
            "</svg>\n",
        )
    )


def x_of(value: float, low: int, high: int) -> float:
    return LEFT + (math.log10(max(value, LEAST)) - low) / (high - low) * (WIDTH - LEFT - RIGHT)


def y_of(part: float) -> float:
    return HEIGHT - BOTTOM - part * (HEIGHT - TOP - BOTTOM)


def axes(low: int, high: int) -> Iterator[str]:
    """Grid, ticks and their labels."""
    for power in range(low, high + 1):
        x = x_of(10.0**power, low, high)
        yield f'<path d="M{x:.1f} {TOP}V{HEIGHT - BOTTOM}" stroke="#e2e8f0"/>'
        yield f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 20}" text-anchor="middle">{10.0**power:g} s</text>'
    for part in (0.0, 0.25, 0.5, 0.75, 0.95, 1.0):
        y = y_of(part)
        yield f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="#e2e8f0"/>'
        yield f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{part:.0%}</text>'


def drawn(number: int, name: str, curve: Sequence[float], low: int, high: int) -> Iterator[str]:
    """One curve and its entry in the legend; the first one, which is what happened, is dashed."""
    colour, dash = COLOURS[number % len(COLOURS)], "" if number else ' stroke-dasharray="6 4"'
    if curve:
        steps = len(curve) - 1 or 1
        points = " ".join(f"{x_of(value, low, high):.1f},{y_of(i / steps):.1f}" for i, value in enumerate(curve))
        yield f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>'
    x, y = LEFT + (number % 2) * (WIDTH - LEFT) / 2, HEIGHT - BOTTOM + 46 + number // 2 * 18
    yield f'<path d="M{x} {y}h24" stroke="{colour}" stroke-width="2"{dash}/>'
    yield f'<text x="{x + 32}" y="{y + 4}">{escape(name)}</text>'
