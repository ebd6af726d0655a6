"""What the views of files and batches share: who calls, whose rows those are, errors and lists in OpenAI's form."""

from collections.abc import Callable
from typing import Any

from django.db import InterfaceError, OperationalError
from django.db.models import Q, QuerySet
from django.http import Http404
from drf_spectacular.utils import extend_schema
from rest_framework.exceptions import APIException, ErrorDetail
from rest_framework.permissions import BasePermission
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView, exception_handler

from fleet.api.authentication import KeyAuthentication
from fleet.api.openai.entrance import NOBODY
from fleet.models import ApiKey
from fleet.services.batch.jobs import Owner

AUTHENTICATION, SERVER = 401, 500


class Fault(APIException):
    """An error with the members that OpenAI's have."""

    def __init__(self, message: str, param: str | None = None, code: str | None = None, status: int = 400) -> None:
        super().__init__(message)
        self.status_code, self.param, self.openai_code = status, param, code


class AnyCaller(BasePermission):
    """Any key, and who needs none: the data plane has let them in."""

    message = "A key is needed: send Authorization: Bearer sollol_..."

    def has_permission(self, request: Request, view: Any) -> bool:
        # Behind DRF's request is Django's, which keeps the scope that it was made of.
        nobody = getattr(request._request, "scope", {}).get(NOBODY, False)  # noqa: SLF001 (DRF's name for it)
        return isinstance(request.auth, ApiKey) or bool(nobody)


@extend_schema(exclude=True)
class OpenAIView(APIView):
    """A view of OpenAI's API; the schema of ours does not tell it."""

    authentication_classes = (KeyAuthentication,)
    permission_classes = (AnyCaller,)

    def perform_content_negotiation(self, request: Request, force: bool = False) -> tuple[Any, str]:
        """Answers are what they are, whatever a client says that it accepts (the SDK asks for files as binary)."""
        renderer = self.get_renderers()[0]
        return renderer, renderer.media_type

    def get_exception_handler(self) -> Callable[..., Any]:
        return fault


class NothingHere(OpenAIView):
    """An address below these that there is not."""

    def dispatch(self, request: Any, *args: Any, **named: Any) -> Any:
        self.http_method_names = [str(request.method).lower()]
        setattr(self, self.http_method_names[0], self.nothing)
        return super().dispatch(request, *args, **named)

    def nothing(self, request: Request, *args: Any, **named: Any) -> Response:
        raise Fault(f"Invalid URL ({request.method} {request.path})", status=404)


def fault(error: Exception, context: dict[str, Any]) -> Response | None:
    """An exception as OpenAI's answer; None for one that nobody has foreseen."""
    if isinstance(error, (OperationalError, InterfaceError)):
        error = Fault("The database cannot be reached or is busy; try again in a moment.", status=503)
    if isinstance(error, Http404):
        error = Fault("There is no such object.", status=404)
    answer = exception_handler(error, context)
    if answer is None:
        return None
    status, param, code = answer.status_code, getattr(error, "param", None), getattr(error, "openai_code", None)
    kind = "server_error" if status >= SERVER else "invalid_request_error"
    if status == AUTHENTICATION:
        code = "invalid_api_key"
    message = words(getattr(error, "detail", str(error)))
    told = {"error": {"message": message, "type": kind, "param": param, "code": code}}
    return Response(told, status=status, headers=dict(answer.headers))


def words(detail: Any) -> str:
    """DRF's detail, whatever its form, as one text."""
    if isinstance(detail, ErrorDetail | str):
        return str(detail)
    if isinstance(detail, dict):
        return " ".join(f"{name}: {words(one)}" for name, one in detail.items())
    return " ".join(words(one) for one in detail)


def owner(request: Request) -> Owner:
    """Whose what a caller makes is: the key's team's, or nobody's."""
    return Owner(request.auth.team, request.auth) if isinstance(request.auth, ApiKey) else Owner()


def own(request: Request, rows: QuerySet[Any], nobody: Q) -> QuerySet[Any]:
    """Of these rows those of the caller's team; `nobody` chooses those of callers without a key."""
    return rows.filter(team=request.auth.team_id) if isinstance(request.auth, ApiKey) else rows.filter(nobody)


def page(request: Request, rows: QuerySet[Any], shown: Callable[[Any], Any], usual: int, most: int) -> Response:
    """A list as OpenAI's: `limit` rows behind the row `after`, newest first unless `order` says asc."""
    oldest_first = chosen(request, "order", ("desc", "asc")) == "asc"
    rows = rows.order_by("created_at", "id") if oldest_first else rows.order_by("-created_at", "-id")
    if after := request.query_params.get("after"):
        last = rows.filter(public_id=after).first()
        if last is None:
            raise Fault(f"No such object: {after}", "after")
        beyond = "gt" if oldest_first else "lt"
        same = Q(created_at=last.created_at, **{f"id__{beyond}": last.pk})
        rows = rows.filter(Q(**{f"created_at__{beyond}": last.created_at}) | same)
    limit = count(request, usual, most)
    found = list(rows[: limit + 1])
    data = [shown(one) for one in found[:limit]]
    ends = {"first_id": data[0]["id"], "last_id": data[-1]["id"]} if data else {"first_id": None, "last_id": None}
    return Response({"object": "list", "data": data, **ends, "has_more": len(found) > limit})


def count(request: Request, usual: int, most: int) -> int:
    told = request.query_params.get("limit", str(usual))
    if not told.isascii() or not told.isdigit() or not 1 <= int(told) <= most:
        raise Fault(f"limit is a number from 1 to {most}.", "limit")
    return int(told)


def chosen(request: Request, name: str, choices: tuple[str, ...]) -> str:
    told = str(request.query_params.get(name, choices[0]))
    if told not in choices:
        raise Fault(f"{name} is one of: {', '.join(choices)}.", name)
    return told


def text(value: Any, name: str) -> str:
    """A member that a body must have. Raises `Fault` where it has not."""
    if value is None:
        raise Fault(f"Missing required parameter: '{name}'.", name, "missing_required_parameter")
    if not isinstance(value, str) or not value:
        raise Fault(f"'{name}' is a text.", name, "invalid_type")
    return value
