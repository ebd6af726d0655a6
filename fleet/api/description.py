"""What the control plane's OpenAPI description says of every address."""

from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.plumbing import build_bearer_security_scheme_object

from fleet.api.permissions import STANDARD


def response(text: str, shape: dict[str, Any]) -> dict[str, Any]:
    return {"description": text, "content": {"application/json": {"schema": shape}}}


DETAIL = {"type": "object", "properties": {"detail": {"type": "string"}}, "required": ["detail"]}
#: Answers that any address may give, by name and status.
ANSWERS: dict[str, tuple[str, dict[str, Any]]] = {
    "Unfit": ("400", response("What is wrong, by field.", {"type": "object", "additionalProperties": {}})),
    "NoKey": ("401", response("No key or session, or one that is not in force.", DETAIL)),
    "NotAllowed": ("403", response("The key or person may not do this.", DETAIL)),
    "NotFound": ("404", response("There is no such row or page.", DETAIL)),
    "InUse": ("409", response("Something else needs the row.", DETAIL)),
    "NoJson": ("415", response("The body is no JSON.", DETAIL)),
    "Away": ("503", response("The database, or the gateway, cannot be reached.", DETAIL)),
}
#: How a text is described that may be empty although it has a pattern.
EMPTY = {"type": "string", "maxLength": 0}
WRITES = frozenset(("POST", "PUT", "PATCH"))


class Description(AutoSchema):
    """What every address may answer beside what its view says."""

    def get_operation(self, path: str, *others: Any) -> dict[str, Any] | None:
        operation: dict[str, Any] | None = super().get_operation(path, *others)
        if operation is None:
            return None
        asked = {one["name"] for one in operation.get("parameters", ()) if one["in"] == "query"}
        names = ["NoKey", "NotAllowed", "Away"]
        if asked or self.method in WRITES:
            names.append("Unfit")
        if "{" in path or "cursor" in asked:
            names.append("NotFound")
        if self.method == "DELETE":
            names.append("InUse")
        if self.method in WRITES:
            names.append("NoJson")
        told = {ANSWERS[name][0]: {"$ref": f"#/components/responses/{name}"} for name in names}
        operation["responses"] = dict(sorted({**told, **operation["responses"]}.items()))
        return operation

    def get_request_serializer(self) -> Any:
        """Whoever does something with a row sends nothing."""
        if self.method == "POST" and getattr(self.view, "action", None) not in STANDARD:
            return None
        return super().get_request_serializer()


def with_answers(result: dict[str, Any], **context: Any) -> dict[str, Any]:
    """The description with the answers that its addresses share; the empty text may fit a pattern as well."""
    result["components"]["responses"] = {name: told for name, (_, told) in ANSWERS.items()}
    for schema in result["components"]["schemas"].values():
        for shape in schema.get("properties", {}).values():
            if EMPTY in shape.get("oneOf", ()):
                shape["anyOf"] = shape.pop("oneOf")
    return result


class KeyScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]  # registers itself by being defined
    target_class = "fleet.api.authentication.KeyAuthentication"
    name = "key"

    def get_security_definition(self, auto_schema: Any) -> dict[str, Any]:
        return dict(build_bearer_security_scheme_object("Authorization", "Bearer"))
