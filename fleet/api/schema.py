"""The control plane's OpenAPI description, and the page that shows it."""

from typing import Any

from django.conf import settings
from django.contrib.admin.views.decorators import staff_member_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.plumbing import build_bearer_security_scheme_object
from drf_spectacular.views import SpectacularAPIView

#: Swagger UI comes from an installed package; its icons are data: images, and it styles elements by script.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
DETAIL: dict[str, Any] = {
    "type": "object",
    "properties": {"detail": {"type": "string"}},
    "required": ["detail"],
}
FAULTS: dict[str, Any] = {
    "description": "A text, or a list of texts, for each field that is wrong.",
    "type": "object",
    "additionalProperties": {},
}


def response(text: str, shape: dict[str, Any]) -> dict[str, Any]:
    return {"description": text, "content": {"application/json": {"schema": shape}}}


class Description(AutoSchema):
    """What every address may answer beside what its view says."""

    def get_operation(self, path: str, *others: Any) -> dict[str, Any] | None:
        operation: dict[str, Any] | None = super().get_operation(path, *others)
        if operation is None:
            return None
        answers = operation["responses"]
        answers["401"] = response("No key or session, or one that is not in force.", DETAIL)
        answers["403"] = response("The key or person may not do this.", DETAIL)
        answers["503"] = answers.get("503") or response("The database cannot be reached.", DETAIL)
        if self.takes_input(operation):
            answers["400"] = response("Something that was sent does not fit.", FAULTS)
        if "{" in path or "cursor" in {one["name"] for one in operation.get("parameters", ())}:
            answers["404"] = response("There is no such row or page.", DETAIL)
        if self.method == "DELETE":
            answers["409"] = response("Something else needs the row.", DETAIL)
        if self.method in {"POST", "PUT", "PATCH"}:
            answers["415"] = response("The body is neither JSON nor a form.", DETAIL)
        operation["responses"] = dict(sorted(answers.items()))
        return operation

    def takes_input(self, operation: dict[str, Any]) -> bool:
        asked = any(one["in"] == "query" for one in operation.get("parameters", ()))
        return asked or self.method in {"POST", "PUT", "PATCH"}


class KeyScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]  # registers itself by being defined
    target_class = "fleet.api.authentication.KeyAuthentication"
    name = "key"

    def get_security_definition(self, auto_schema: Any) -> dict[str, Any]:
        return dict(build_bearer_security_scheme_object("Authorization", "Bearer"))


class SchemaView(SpectacularAPIView):
    """OpenAPI 3 as YAML; `?format=json` gives JSON."""

    permission = "fleet.view_requestrecord"


@require_safe
@staff_member_required
def docs(request: HttpRequest) -> HttpResponse:
    page = render(request, "api/docs.html", {"title": settings.SPECTACULAR_SETTINGS["TITLE"]})
    page["Content-Security-Policy"] = POLICY
    return page
