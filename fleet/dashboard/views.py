"""The pages around the live view, and what they ask for beside the WebSocket."""

from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any

from asgiref.sync import sync_to_async
from django.contrib.admin.views.decorators import staff_member_required
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from fleet import live
from fleet.dashboard.record import laid_out
from fleet.selectors.access import own_teams, watches_all
from fleet.services.feed import FEED
from fleet.services.lookup import found

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)

Answer = Callable[..., Coroutine[Any, Any, HttpResponse]]


def page(request: HttpRequest, template: str, context: dict[str, Any] | None = None, status: int = 200) -> HttpResponse:
    """A page or a part of one, with the strict policy."""
    made = render(request, template, context, status=status)
    made["Content-Security-Policy"] = POLICY
    made["Cache-Control"] = "no-store"
    return made


def for_staff(view: Answer) -> Answer:
    """What scripts ask for is answered 401 to others, where a page would send them to the login."""

    @wraps(view)
    async def answer(request: HttpRequest, *args: Any, **named: Any) -> HttpResponse:
        user = await request.auser()
        if not (user.is_active and user.is_staff):
            return JsonResponse({"error": "you are not logged in as staff"}, status=401)
        return await view(request, *args, **named)

    return answer


@require_safe
@staff_member_required
def dashboard(request: HttpRequest) -> HttpResponse:
    if not watches_all(request.user):
        raise PermissionDenied("The dashboard shows all teams: it is for operators and viewers.")
    return page(request, "dashboard/index.html")


@require_safe
@staff_member_required
def playground(request: HttpRequest) -> HttpResponse:
    return page(request, "dashboard/playground.html")


@require_safe
@for_staff
async def state(request: HttpRequest) -> HttpResponse:
    """The whole picture, as the WebSocket sends it first, for pages that get no WebSocket."""
    if not await sync_to_async(watches_all)(await request.auser()):
        return JsonResponse({"error": "the dashboard shows all teams: it is for operators and viewers"}, status=403)
    return HttpResponse(FEED.now(), content_type="application/json", headers={"Cache-Control": "no-store"})


@require_safe
@for_staff
async def models(request: HttpRequest) -> HttpResponse:
    """The models that can be talked to; `gateway` false where this process runs none, `nodes` counts those in use."""
    panorama = live.panorama()
    told = panorama.models() if panorama else []
    nodes = len({node for model in told for node in model["nodes"]})
    return JsonResponse({"gateway": panorama is not None, "nodes": nodes, "models": told})


@require_safe
@for_staff
async def record(request: HttpRequest, request_id: str) -> HttpResponse:
    """What became of a request and why, as a part of a page: from memory, else from the history."""
    panorama = live.panorama()
    told = panorama.request(request_id) if panorama else None
    if told is None:
        told = await sync_to_async(found)(request_id)
    user = await request.auser()
    if told is not None and not await sync_to_async(watches_all)(user):
        teams = await sync_to_async(own_teams)(user)
        told = told if told.get("team") in teams else None
    context = {"id": request_id, "told": None if told is None else laid_out(told)}
    return await sync_to_async(page)(request, "dashboard/record.html", context, 200 if told else 404)
