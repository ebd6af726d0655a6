"""The Django app of the control plane."""

from django.apps import AppConfig
from django.db.models.signals import post_migrate


class FleetConfig(AppConfig):
    name = "fleet"
    verbose_name = "Fleet"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from django_q.signals import post_execute, pre_execute  # noqa: PLC0415 (it imports models)

        from fleet import checks  # noqa: F401, PLC0415 (registers the checks)
        from fleet.services.groups import ensure_groups  # noqa: PLC0415 (as below)
        from fleet.services.schedules import begun, ended, ensure_schedules  # noqa: PLC0415 (models come first)

        pre_execute.connect(begun, dispatch_uid="fleet.schedules.begun")
        post_execute.connect(ended, dispatch_uid="fleet.schedules.ended")
        post_migrate.connect(ensure_schedules, sender=self, dispatch_uid="fleet.schedules")
        post_migrate.connect(ensure_groups, sender=self, dispatch_uid="fleet.groups")
