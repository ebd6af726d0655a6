"""Bars: how much of something is taken, with the numbers above."""

from django.template.loader import render_to_string

FULL, NEARLY = 100.0, 80.0


def bar(part: float, most: float | None, text: str, note: str = "", *, watched: bool = False) -> str:
    """A bar of `part` of `most`; without a `most` the text alone. Watched ones turn orange, then red."""
    percent = None if not most else 100 * part / most
    facts = {
        "text": text,
        "note": note,
        "shown": None if percent is None else f"{min(FULL, max(0.0, percent)):.1f}",
        "level": level(percent) if watched and percent is not None else "",
    }
    return render_to_string("admin/fleet/bar.html", facts)


def level(percent: float) -> str:
    if percent >= FULL:
        return "danger"
    return "warning" if percent >= NEARLY else ""
