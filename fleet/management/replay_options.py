"""What the options of a replay mean: a span of time, whose requests, which variants."""

import re
from datetime import datetime, timedelta
from typing import Any

from django.utils import timezone
from django.utils.dateparse import parse_date, parse_datetime

from fleet.models import Team
from fleet.services.replay.changes import Fleet, with_node, with_slots, without
from fleet.services.replay.past import Happened
from fleet.services.replay.runs import Filter, Variant, routings
from routing.core.names import canonical
from routing.core.strategies import BUILT_IN

SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])")
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
AS_IT_WAS = "as it was"


def check(options: dict[str, Any]) -> None:
    """Raises ValueError for what can be seen to be wrong without looking at anything."""
    if options["seeds"] < 1 or options["limit"] < 1:
        raise ValueError("--seeds and --limit must be at least 1")
    if not 0.01 <= options["load_factor"] <= 100.0:  # noqa: PLR2004 (what anybody could mean)
        raise ValueError("--load-factor must be between 0.01 and 100")
    if options["plot"] and options["plot"].suffix.lower() != ".svg":
        raise ValueError("--plot writes SVG: give a name that ends in .svg")
    if options["only"] and not (options["team"] or options["model"]):
        raise ValueError("--only needs --team or --model")


def span_of(options: dict[str, Any]) -> tuple[datetime, datetime]:
    """The span of time asked for. Raises ValueError."""
    until = moment(options["until"], "--until") if options["until"] else timezone.now()
    if options["since"]:
        since = moment(options["since"], "--since")
    else:
        told = SPAN.fullmatch(options["last"].strip().lower())
        if told is None or float(told[1]) <= 0:
            raise ValueError(f"--last {options['last']!r} is no span of time; for example 90m, 24h, 7d")
        since = until - timedelta(seconds=float(told[1]) * SECONDS[told[2]])
    if since >= until:
        raise ValueError(f"the time ends ({told_moment(until)}) before it begins ({told_moment(since)})")
    return since, until


def moment(text: str, option: str) -> datetime:
    """A moment as people write it, in the site's time zone where it names none."""
    try:
        found = parse_datetime(text)
        day = None if found else parse_date(text)
    except ValueError:
        found = day = None
    if day is not None:
        found = datetime.combine(day, datetime.min.time())
    if found is None:
        raise ValueError(f"{option} {text!r} is no moment; for example 2026-01-31 or '2026-01-31 08:00'")
    return found if timezone.is_aware(found) else timezone.make_aware(found)


def told_moment(when: datetime) -> str:
    return f"{timezone.localtime(when):%Y-%m-%d %H:%M}"


def variants_of(fleet: Fleet, options: dict[str, Any]) -> list[Variant]:
    """What is run: the fleet as it is first. Raises ValueError."""
    changed, parts = fleet, list[str]()
    for name in options["remove_node"] or ():
        changed, parts = without(changed, name), [*parts, f"without {name}"]
    for text in options["slots"] or ():
        changed, parts = with_slots(changed, text), [*parts, text.replace("=", " with ") + " slots"]
    for text in options["add_node"] or ():
        changed = with_node(changed, text)
        parts.append(f"with {changed.snapshot.nodes[-1].name}")
    if not changed.nodes:
        raise ValueError("without these nodes there are none left")
    known = routings(fleet.snapshot, BUILT_IN)
    unknown = [name for name in options["strategy"] or () if name not in known]
    if unknown:
        raise ValueError(f"no strategy is called {unknown[0]!r} (strategies: {', '.join(known)})")
    return [Variant(AS_IT_WAS, fleet), *combined(fleet, changed, parts, options["strategy"] or [], options)]


def combined(
    fleet: Fleet, changed: Fleet, parts: list[str], strategies: list[str], options: dict[str, Any]
) -> list[Variant]:
    """Each strategy with all changes of the fleet and of the load; a denser load also by itself."""
    factor = options["load_factor"]
    dense = [] if factor == 1.0 else [f"load x {factor:g}"]
    found = []
    if dense and (parts or strategies):
        found.append(Variant(dense[0], fleet, "", factor))
    for routing in strategies or [""]:
        label = ", ".join([*([routing] if routing else []), *parts, *dense])
        if label:
            found.append(Variant(label, changed, routing, factor))
    return found


def filter_of(options: dict[str, Any]) -> Filter:
    """Which requests are told of. Raises ValueError for a team that nobody knows."""
    models = {canonical(name) for name in options["model"] or ()}
    team_id: int | None = None
    if options["team"]:
        team = Team.objects.filter(name__iexact=options["team"]).first()
        if team is None:
            known = ", ".join(Team.objects.values_list("name", flat=True)[:20]) or "none"
            raise ValueError(f"no team is called {options['team']!r} (teams: {known})")
        team_id = team.pk

    def wanted(one: Happened) -> bool:
        return (not models or one.asked.profile.key in models) and (team_id is None or one.team_id == team_id)

    return wanted


def subject(options: dict[str, Any]) -> str:
    """Of whom it is told, in words."""
    team = f" of team {options['team']}" if options["team"] else ""
    return team + (f" for {', '.join(options['model'])}" if options["model"] else "")
