"""Which address belongs to what: admin, the dashboard, the control plane's REST API."""

from django.contrib import admin
from django.urls import include, path, re_path

from fleet.api.metrics import MetricsView
from fleet.api.overview import DashboardView, HealthView, StatsView
from fleet.api.schema import SchemaView, docs

urlpatterns = [
    path("admin/", admin.site.urls),
    path("dashboard/", include("fleet.dashboard.urls")),
    path("api/fleet/", include("fleet.api.urls")),
    path("api/batch/", include("fleet.api.batch_urls")),
    path("v1/", include("fleet.api.openai.urls")),
    re_path("^api/dashboard/?$", DashboardView.as_view(), name="api-dashboard"),
    re_path("^api/stats/?$", StatsView.as_view(), name="api-stats"),
    re_path("^api/health/?$", HealthView.as_view(), name="api-health"),
    path("api/schema/", SchemaView.as_view(), name="api-schema"),
    path("api/docs/", docs, name="api-docs"),
    path("metrics", MetricsView.as_view(), name="metrics"),
]
