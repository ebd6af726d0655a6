"""The background tasks' own pages (django-q2) in the look of the other pages."""

from django.contrib import admin
from django_q import admin as tasks
from django_q.models import Failure, OrmQ, Schedule, Success

from fleet.admin.page import PageAdmin

PAGES = (
    (Schedule, tasks.ScheduleAdmin),
    (Success, tasks.TaskAdmin),
    (Failure, tasks.FailAdmin),
    (OrmQ, tasks.QueueAdmin),
)

for model, page in PAGES:
    if admin.site.is_registered(model):
        admin.site.unregister(model)
    admin.site.register(model, type(page.__name__, (page, PageAdmin), {}))
