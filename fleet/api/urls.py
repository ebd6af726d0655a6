"""The control plane's addresses; the slash at the end is optional, so that no redirect loses a POST."""

from django.urls import re_path
from rest_framework.routers import DefaultRouter

from fleet.api import views

router = DefaultRouter()
router.trailing_slash = "/?"
router.register("nodes", views.NodeViewSet, basename="node")
router.register("models", views.NodeModelViewSet, basename="nodemodel")
router.register("teams", views.TeamViewSet, basename="team")
router.register("keys", views.KeyViewSet, basename="key")
router.register("policies", views.PolicyViewSet, basename="policy")
router.register("strategies", views.StrategyViewSet, basename="strategy")
router.register("rules", views.RuleViewSet, basename="rule")
router.register("speeds", views.SpeedViewSet, basename="speed")
router.register("prefills", views.PrefillViewSet, basename="prefill")
router.register("usage", views.UsageViewSet, basename="usage")
router.register("rollups", views.RollupViewSet, basename="rollup")
router.register("requests", views.RequestViewSet, basename="request")
router.register("events", views.EventViewSet, basename="event")

urlpatterns = [*router.urls, re_path("^", views.NothingHere.as_view())]
