"""Who calls the control plane: a bearer with the form of our keys is one of ours, or it is wrong."""

from typing import Any

from django.contrib.auth.models import AnonymousUser
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from fleet.models import ApiKey
from fleet.selectors.keys import by_digest
from fleet.services.keys import MARK, digest


class KeyAuthentication(BaseAuthentication):
    """`Authorization: Bearer sollol_...`; the key becomes `request.auth`, the user stays anonymous.

    A bearer of another form counts as none: clients of Ollama and OpenAI send whatever they were given.
    """

    def authenticate(self, request: Request) -> tuple[AnonymousUser, ApiKey] | None:
        scheme, _, plain = request.META.get("HTTP_AUTHORIZATION", "").partition(" ")
        plain = plain.strip()
        if scheme.lower() != "bearer" or not plain.startswith(MARK):
            return None
        key = by_digest(digest(plain))
        if key is None:
            raise AuthenticationFailed("This key is unknown, revoked or expired.")
        return AnonymousUser(), key

    def authenticate_header(self, request: Any) -> str:
        return 'Bearer realm="sollol"'
