"""The page around the live view; what it shows comes over the WebSocket."""

from django.contrib.admin.views.decorators import staff_member_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


@require_safe
@staff_member_required
def dashboard(request: HttpRequest) -> HttpResponse:
    page = render(request, "dashboard/index.html")
    page["Content-Security-Policy"] = POLICY
    return page
