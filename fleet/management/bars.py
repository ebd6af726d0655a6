"""Tables and bars as text."""

from collections.abc import Iterable, Sequence

EIGHTHS = " ▏▎▍▌▋▊▉█"


def table(rows: Iterable[Sequence[str]]) -> list[str]:
    """Aligned columns: the first one to the left, the others, which hold numbers, to the right."""
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def bar(value: float, largest: float, width: int) -> str:
    """A bar of up to `width` characters; the largest value fills it."""
    eighths = round(8 * width * value / largest) if largest > 0 else 0
    whole, rest = divmod(min(eighths, 8 * width), 8)
    return EIGHTHS[8] * whole + (EIGHTHS[rest] if rest else "")


def bars(values: Sequence[tuple[str, float]], unit: str = "", width: int = 48) -> list[str]:
    """A line with a bar and the number for each value."""
    largest = max((value for _, value in values), default=0.0)
    longest = max((len(label) for label, _ in values), default=0)
    return [
        f"{label.ljust(longest)}  {bar(value, largest, width)} {seconds(value)}{unit}".rstrip()
        for label, value in values
    ]


def seconds(value: float) -> str:
    """Three digits are enough."""
    if value >= 100:  # noqa: PLR2004
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"  # noqa: PLR2004
