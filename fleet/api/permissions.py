"""Who may use the control plane."""

from typing import Any

from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from fleet.models import ApiKey, Scope


class MayManage(BasePermission):
    """A key with scope `manage`, or a staff session."""

    message = "This needs a key with scope manage, or a staff session."

    def has_permission(self, request: Request, view: Any) -> bool:
        if isinstance(request.auth, ApiKey):
            return Scope.MANAGE in request.auth.scopes
        return bool(request.user and request.user.is_active and request.user.is_staff)
