"""Imports of nodes and policies: what a text would change, all of it checked; and then all of it done, or nothing."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.core.exceptions import ValidationError
from django.db import DatabaseError, models, transaction

from fleet.models import Node, PriorityPolicy, Quota, Team
from fleet.models.node import normal_url
from fleet.services import quotas as quota_service
from fleet.services.nodes import truth
from fleet.services.texts import QUOTA, SECRET, Row, columns, quota_row


@dataclass(slots=True)
class Change:
    """What becomes of one row: `before` and `after` by column, of those that differ."""

    name: str
    row: models.Model
    new: bool
    before: Row = field(default_factory=dict)
    after: Row = field(default_factory=dict)
    quotas: list[Quota] | None = None

    @property
    def kind(self) -> str:
        if self.new:
            return "new"
        return "changed" if self.after else "same"

    def lines(self) -> list[str]:
        """What differs, a line for each column; secrets are not told."""
        return [f"{name}: {self.told(name, value)}" for name, value in self.after.items()]

    def told(self, name: str, value: Any) -> str:
        if name in SECRET:
            return "…"
        return brief(value) if self.new else f"{brief(self.before[name])} → {brief(value)}"


@dataclass(slots=True)
class Plan:
    """What an import would do; with faults it does nothing."""

    changes: list[Change] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    @property
    def mark(self) -> str:
        """Differs as soon as anything that is told differs: what was previewed is what is done."""
        told = [(change.name, change.kind, change.lines()) for change in self.changes]
        return hashlib.sha256(json.dumps([told, self.faults]).encode()).hexdigest()

    def count(self, kind: str) -> int:
        return sum(change.kind == kind for change in self.changes)


def brief(value: Any) -> str:
    if value is None or value == "":
        return "empty"
    return json.dumps(value) if isinstance(value, dict | list) else str(value)


def plan_nodes(rows: Sequence[Row]) -> Plan:
    """Nodes are known by name, or by address where the name is new. A column that is not there stays as it is."""
    known = list(Node.objects.all())
    by_name, by_url = {node.name.lower(): node for node in known}, {node.url: node for node in known}

    def find(row: Row) -> tuple[models.Model, str]:
        name = str(row.get("name") or "")
        node = by_name.get(name.lower()) or by_url.get(address_of(row)) or Node()
        return node, name or node.name or str(row.get("url") or "")

    return plan(rows, find, ("name", "url"), keep_credentials)


def address_of(row: Row) -> str:
    """The address in its normal form; as it is where it is none, which the node's own check then tells."""
    text = str(row.get("url") or "")
    try:
        return normal_url(text)
    except ValidationError:
        return text


def keep_credentials(row: Row, node: Any) -> list[Quota] | None:
    """Texts carry no credentials: those of the node stay, as long as their header does."""
    if "header_name" in row and not node.header_name:
        node.header_value = ""
    return None


def plan_policies(rows: Sequence[Row]) -> Plan:
    """Policies are known by their team, which must exist; quotas that are given replace all those of the team."""
    teams = {team.name.lower(): team for team in Team.objects.select_related("policy")}

    def find(row: Row) -> tuple[models.Model, str]:
        name = str(row.pop("team", "") or "")
        team = teams.get(name.lower())
        if team is None:
            raise ValueError(f"no team is called {name!r}" if name else "it names no team")
        return getattr(team, "policy", None) or PriorityPolicy(team=team), team.name

    return plan(rows, find, ("team",), read_quotas)


def plan(
    rows: Sequence[Row],
    find: Callable[[Row], tuple[models.Model, str]],
    once: Sequence[str],
    finish: Callable[[Row, Any], list[Quota] | None],
) -> Plan:
    """`find` names the row that is meant, `once` the columns of which no two rows may have the same value."""
    made = Plan()
    taken: set[tuple[str, str]] = set()
    for number, told in enumerate(rows, 1):
        row = dict(told)
        try:
            target, name = find(row)
            change = planned(row, target, name, finish)
        except ValidationError as error:
            made.faults += [f"row {number}: {fault}" for fault in faults(error)]
            continue
        except ValueError as error:
            made.faults.append(f"row {number}: {error}")
            continue
        for column in once:
            mark = (column, str(getattr(change.row, column)).lower())
            if mark in taken:
                made.faults.append(f"row {number}: another row before it has the {column} {mark[1]} too")
            taken.add(mark)
        made.changes.append(change)
    return made


def planned(row: Row, target: models.Model, name: str, finish: Callable[[Row, Any], list[Quota] | None]) -> Change:
    new = target.pk is None
    names = columns(type(target))
    before = {column: getattr(target, column) for column in names if column != "team"}
    wanted = row.pop("quotas", None)
    if strange := [column for column in row if column not in before]:
        raise ValueError(f"unknown column {', '.join(strange)}; known are {', '.join(before)}")
    for column, value in row.items():
        setattr(target, column, converted(target, column, value))
    quotas = finish({**row, "quotas": wanted}, target)
    target.full_clean()
    change = Change(name, target, new, quotas=quotas)
    for column, old in before.items():
        value = getattr(target, column)
        if value != old or (new and column in row):
            change.before[column], change.after[column] = old, value
    if quotas is not None:
        old_quotas = [] if new else told_quotas(Quota.objects.filter(policy=target.pk))
        if told_quotas(quotas) != old_quotas:
            change.before["quotas"], change.after["quotas"] = old_quotas, told_quotas(quotas)
    return change


def converted(target: models.Model, column: str, value: Any) -> Any:
    """A cell as its column wants it. Raises ValueError, or ValidationError with the column's name."""
    kind: Any = type(target)._meta.get_field(column)  # noqa: SLF001 (Django's public name for it)
    if value is None or value == "":
        if kind.null:
            return None
        return kind.get_default() if isinstance(kind, models.JSONField) or kind.has_default() else ""
    if isinstance(kind, models.BooleanField):
        try:
            return value if isinstance(value, bool) else truth(str(value))
        except KeyError:
            raise ValueError(f"{column}: {value!r} is neither yes nor no") from None
    if isinstance(kind, models.JSONField):
        return from_json(column, value)
    if isinstance(value, bool | dict | list):
        raise ValueError(f"{column}: {value!r} is no single value")  # noqa: TRY004 (as all other faults)
    try:
        return kind.to_python(value)
    except ValidationError as error:
        raise ValidationError({column: error.messages}) from None


def from_json(column: str, value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        raise ValueError(f"{column}: {value[:80]!r} is no JSON") from None


def read_quotas(row: Row, policy: Any) -> list[Quota] | None:
    """The quotas that a row gives, checked; None if it gives none, [] if it says that there are none."""
    policy.full_clean()  # first: quotas are checked against its priorities
    value = row["quotas"]
    if value is None or value == "":
        kept = [] if policy.pk is None else policy.quotas.all()
        for fault in filter(None, (quota.budget_fault(policy.highest_priority) for quota in kept)):
            raise ValueError(f"quotas, which stay: {fault}")
        return None
    value = from_json("quotas", value)
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise ValueError('quotas: a list is expected, as [{"amount": 100, "measure": "requests", "window": "day"}]')
    found = []
    for one in value:
        if strange := [name for name in one if name not in QUOTA]:
            raise ValueError(f"quotas: unknown name {', '.join(map(str, strange))}; known are {', '.join(QUOTA)}")
        quota = Quota(policy=policy)
        for name, part in one.items():
            setattr(quota, name, converted(quota, name, part))
        try:
            quota.full_clean(exclude=("policy",), validate_constraints=False, validate_unique=False)
        except ValidationError as error:
            raise ValueError(f"quotas: {'; '.join(faults(error))}") from None
        found.append(quota)
    if len({quota.kind for quota in found}) < len(found):
        raise ValueError("quotas: two are of the same measure, window and priority")
    return found


def told_quotas(quotas: Any) -> list[Row]:
    return sorted((quota_row(quota) for quota in quotas), key=lambda row: json.dumps(row, sort_keys=True))


def faults(error: ValidationError) -> list[str]:
    if not hasattr(error, "error_dict"):
        return list(error.messages)
    named = error.message_dict.items()
    return [fault if name == "__all__" else f"{name}: {fault}" for name, found in named for fault in found]


def carry_out(made: Plan) -> list[Change]:
    """Do what the plan tells, all or nothing; returns what has changed. Raises ValueError if it cannot be done."""
    if made.faults:
        raise ValueError("; ".join(made.faults))
    done = [change for change in made.changes if change.kind != "same"]
    try:
        with transaction.atomic():
            for change in done:
                change.row.save()
                if change.quotas is not None and isinstance(change.row, PriorityPolicy):
                    quota_service.replace(change.row, change.quotas)
    except DatabaseError as error:
        raise ValueError(f"the database refuses it: {error}") from None
    return done


PLANS = {"nodes": plan_nodes, "policies": plan_policies}
