"""Which address belongs to what: admin, the dashboard, the control plane's REST API."""

from django.contrib import admin
from django.urls import include, path

from fleet.api.metrics import MetricsView

urlpatterns = [
    path("admin/", admin.site.urls),
    path("dashboard/", include("fleet.dashboard.urls")),
    path("api/fleet/", include("fleet.api.urls")),
    path("metrics", MetricsView.as_view(), name="metrics"),
]
