"""Who may see and change what: the groups, and the teams that a person is bound to."""

from typing import Any

from django.db.models import Q, QuerySet

from fleet.models import Scope, Team

OPERATOR, LEAD, VIEWER = "operator", "team lead", "viewer"


def groups_of(user: Any) -> frozenset[str]:
    """The names of a person's groups, asked for once a request."""
    known: frozenset[str] | None = getattr(user, "sollol_groups", None)
    if known is None:
        known = frozenset(user.groups.values_list("name", flat=True)) if user.is_authenticated else frozenset()
        user.sollol_groups = known
    return known


def sees_all(user: Any) -> bool:
    """Whether a person sees every team's rows, as far as permissions let them see any."""
    groups = groups_of(user)
    return bool(user.is_superuser or LEAD not in groups or groups & {OPERATOR, VIEWER})


def changes_all(user: Any) -> bool:
    """Whether a person changes every team's rows, as far as permissions let them change any."""
    groups = groups_of(user)
    return bool(user.is_superuser or LEAD not in groups or OPERATOR in groups)


def watches_all(user: Any) -> bool:
    """Whether a person may look at the live picture, which shows the requests of every team."""
    if not (user.is_active and user.is_staff):
        return False
    return bool(user.is_superuser or (user.has_perm("fleet.view_node") and sees_all(user)))


def own_teams(user: Any) -> frozenset[str]:
    """The names of the teams that a person belongs to."""
    return frozenset(Team.objects.filter(members=user.pk).values_list("name", flat=True))


def seen(user: Any, rows: QuerySet[Any], path: str = "team") -> QuerySet[Any]:
    """Of these rows those that a person may see; `path` leads from a row to its team."""
    return rows if sees_all(user) else rows.filter(own(user, path))


def seen_by_name(user: Any, rows: QuerySet[Any]) -> QuerySet[Any]:
    """The same of rows that hold their team's name alone."""
    return rows if sees_all(user) else rows.filter(team_name__in=own_teams(user))


def changed(user: Any, rows: QuerySet[Any], path: str = "team") -> QuerySet[Any]:
    """Of these rows those that a person may change."""
    return rows if changes_all(user) else rows.filter(own(user, path))


def own(user: Any, path: str) -> Q:
    return Q(**{f"{path}__in": Team.objects.filter(members=user.pk).values("pk")})


def grantable(user: Any) -> frozenset[str]:
    """The scopes of keys that a person may give out: who leads a team cannot make himself an operator by a key."""
    return frozenset(Scope.values) if changes_all(user) else frozenset({Scope.INFERENCE.value})
