"""The WebSockets' addresses."""

from channels.auth import AuthMiddlewareStack
from channels.security.websocket import AllowedHostsOriginValidator
from django.urls import path, re_path

from fleet.consumers.dashboard import DashboardConsumer
from fleet.consumers.inference import ChatConsumer, GenerateConsumer
from fleet.consumers.unknown import UnknownConsumer

#: The dashboard trusts the session's cookie, so pages of other hosts must not open it; the others trust keys, and judge
#: origins as the Ollama routes do.
websocket_urlpatterns = [
    path("ws/dashboard", AllowedHostsOriginValidator(AuthMiddlewareStack(DashboardConsumer.as_asgi()))),
    path("ws/chat", ChatConsumer.as_asgi()),
    path("ws/generate", GenerateConsumer.as_asgi()),
    re_path("", UnknownConsumer.as_asgi()),
]
