"""Who may use the control plane: keys with scope `manage`, and staff as far as their Django permissions go."""

from typing import Any

from rest_framework.permissions import SAFE_METHODS, BasePermission
from rest_framework.request import Request

from fleet.models import ApiKey, Scope

VERBS = {"POST": "add", "PUT": "change", "PATCH": "change", "DELETE": "delete"}
#: What the view sets' own methods are called; a POST to anything else changes the row that it names.
STANDARD = frozenset(("list", "create", "retrieve", "update", "partial_update", "destroy", "metadata", None))


class MayManage(BasePermission):
    """A key with scope `manage`, or a staff session with the permission that admin would ask for.

    That is the one that the view names in `permission`, else the one of its model.
    """

    message = "This needs a key with scope manage, or a staff session with the permission for it."

    def has_permission(self, request: Request, view: Any) -> bool:
        if isinstance(request.auth, ApiKey):
            return Scope.MANAGE in request.auth.scopes
        user = request.user
        if not (user and user.is_active and user.is_staff):
            return False
        wanted = getattr(view, "permission", None) or needed(request.method or "GET", view)
        return wanted is None or user.has_perm(wanted)


def needed(method: str, view: Any) -> str | None:
    """The permission for this method of a view of rows; None where it has no rows."""
    model: Any = getattr(view, "model", None)
    if model is None:
        return None
    verb = "view" if method in SAFE_METHODS else VERBS.get(method, "change")
    if verb == "add" and getattr(view, "action", None) not in STANDARD:
        verb = "change"
    return f"{model._meta.app_label}.{verb}_{model._meta.model_name}"  # noqa: SLF001 (Django's public name for it)
