"""The dashboard's one page."""

from django.urls import path

from fleet.dashboard.views import dashboard

urlpatterns = [path("", dashboard, name="dashboard")]
