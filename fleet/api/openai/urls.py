"""The addresses of files and batches; a slash at the end does no harm."""

from django.urls import re_path

from fleet.api.openai.batches import Batch, Batches, Cancel
from fleet.api.openai.files import File, FileContent, Files
from fleet.api.openai.views import NothingHere

urlpatterns = [
    re_path("^files/?$", Files.as_view(), name="openai-files"),
    re_path("^files/(?P<id>[^/]+)/?$", File.as_view(), name="openai-file"),
    re_path("^files/(?P<id>[^/]+)/content/?$", FileContent.as_view(), name="openai-file-content"),
    re_path("^batches/?$", Batches.as_view(), name="openai-batches"),
    re_path("^batches/(?P<id>[^/]+)/?$", Batch.as_view(), name="openai-batch"),
    re_path("^batches/(?P<id>[^/]+)/cancel/?$", Cancel.as_view(), name="openai-batch-cancel"),
    re_path("^", NothingHere.as_view()),
]
