"""The WebSockets' addresses."""

from django.urls import path

from fleet.consumers.dashboard import DashboardConsumer

websocket_urlpatterns = [path("ws/dashboard", DashboardConsumer.as_asgi())]
