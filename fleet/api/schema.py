"""The control plane's OpenAPI description, and the page that shows it."""

from django.conf import settings
from django.contrib.admin.views.decorators import staff_member_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe
from drf_spectacular.views import SpectacularAPIView

#: Swagger UI comes from an installed package; its icons are data: images.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


class SchemaView(SpectacularAPIView):
    """OpenAPI 3 as YAML; `?format=json` gives JSON."""

    permission = "fleet.view_requestrecord"


@require_safe
@staff_member_required
def docs(request: HttpRequest) -> HttpResponse:
    page = render(request, "api/docs.html", {"title": settings.SPECTACULAR_SETTINGS["TITLE"]})
    page["Content-Security-Policy"] = POLICY
    return page
