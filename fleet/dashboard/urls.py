"""The dashboard's pages, and what they ask for beside the WebSocket."""

from django.urls import path

from fleet.dashboard import views

urlpatterns = [
    path("", views.dashboard, name="dashboard"),
    path("state/", views.state, name="dashboard-state"),
    path("models/", views.models, name="dashboard-models"),
    path("requests/<str:request_id>/", views.record, name="dashboard-record"),
    path("playground/", views.playground, name="playground"),
]
