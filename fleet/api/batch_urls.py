"""The addresses of batch jobs; the slash at the end is optional, as with the others."""

from django.urls import re_path
from rest_framework.routers import SimpleRouter

from fleet.api.batch import EmbedViewSet, JobViewSet, ResultsViewSet
from fleet.api.views import NothingHere

router = SimpleRouter()
router.trailing_slash = "/?"
router.register("jobs", JobViewSet, basename="batch-job")

urlpatterns = [
    re_path("^embed/?$", EmbedViewSet.as_view({"post": "create"}), name="batch-embed"),
    re_path("^results/(?P<id>[^/]+)/?$", ResultsViewSet.as_view({"get": "retrieve"}), name="batch-results"),
    *router.urls,
    re_path("^", NothingHere.as_view()),
]
