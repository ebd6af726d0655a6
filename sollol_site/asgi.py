"""The ASGI application: the data plane beside Django and the WebSockets, decided by path."""

import os
from typing import Any

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "sollol_site.settings")
# Django must be set up before anything that touches models is imported.
django_application: Any = get_asgi_application()

from channels.routing import URLRouter  # noqa: E402
from django.conf import settings  # noqa: E402

from fleet.api import uploads  # noqa: E402
from fleet.api.openai import entrance  # noqa: E402
from fleet.consumers.routing import websocket_urlpatterns  # noqa: E402
from fleet.runtime import Runtime  # noqa: E402
from routing.gateway.exchange import Receive, Scope, Send  # noqa: E402

#: Bytes that an upload may have.
UPLOAD = settings.ENV.sollol_batch_upload_mb << 20
websocket_application: Any = URLRouter(websocket_urlpatterns)


class Application:
    """Data-plane paths go to the gateway, other HTTP to Django, WebSockets to Channels, lifespan to the runtime."""

    def __init__(self) -> None:
        self.runtime: Runtime | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.runtime is None:
            self.runtime = Runtime()
        kind = scope["type"]
        if kind == "http":
            gateway = self.runtime.gateway
            if uploads.concerns(scope):
                await uploads.bounded(django_application, scope, receive, send, UPLOAD)
                return
            if entrance.concerns(scope["path"]):
                if not self.runtime.started:
                    await self.runtime.ensure_started()
                await entrance.serve(gateway, django_application, scope, receive, send, UPLOAD)
                return
            if not gateway.claims(scope["path"]):
                await django_application(scope, receive, send)
                return
            if not self.runtime.started:
                await self.runtime.ensure_started()
            await gateway(scope, receive, send)
        elif kind == "lifespan":
            await self.runtime.lifespan(scope, receive, send)
            self.runtime = None
        elif kind == "websocket":
            if not self.runtime.started:
                await self.runtime.ensure_started()
            await websocket_application(scope, receive, send)


application = Application()
