"""System checks: configuration that would only fail later, at work."""

from importlib.util import find_spec
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning, register  # noqa: A004 (Django's own name)

#: Packages of the extra `otel`.
TRACING = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")


def there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # not even the package that it would be in
        return False


@register()
def check_traces(app_configs: Any, **options: Any) -> list[CheckMessage]:
    """Traces that are asked for and cannot be made."""
    missing = [name for name in TRACING if settings.ENV.sollol_traces and not there(name)]
    if not missing:
        return []
    hint = "Install it: .venv/bin/pip install -r requirements/otel.txt"
    return [Error(f"SOLLOL_TRACES wants OpenTelemetry; {', '.join(missing)} is missing.", hint=hint, id="fleet.E003")]


@register()
def check_dask(app_configs: Any, **options: Any) -> list[CheckMessage]:
    """Batch steps that are to run on Dask, and cannot."""
    if settings.ENV.sollol_batch_engine != "dask":
        return []
    found: list[CheckMessage] = []
    if not there("distributed"):
        hint = "Install it: .venv/bin/pip install -r requirements/dask.txt"
        found.append(Error("SOLLOL_BATCH_ENGINE=dask wants the package distributed.", hint=hint, id="fleet.E004"))
    if not settings.ENV.sollol_dask_scheduler:
        hint = "Set it to the address that the scheduler tells when it starts, such as tcp://10.0.0.5:8786."
        found.append(Error("SOLLOL_BATCH_ENGINE=dask wants SOLLOL_DASK_SCHEDULER.", hint=hint, id="fleet.E005"))
    return found


@register()
def check_task_times(app_configs: Any, **options: Any) -> list[CheckMessage]:
    """A task that is handed out again while it still runs would run twice."""
    cluster: dict[str, Any] = settings.Q_CLUSTER
    retry, timeout = cluster.get("retry", 60), cluster.get("timeout")
    if timeout is None:
        return [Error("Q_CLUSTER has no timeout: a hung task would hold its worker forever.", id="fleet.E001")]
    if retry <= timeout:
        hint = f"Set retry above {timeout}."
        return [
            Error(
                f"Q_CLUSTER['retry'] ({retry} s) must be longer than timeout ({timeout} s).", hint=hint, id="fleet.E002"
            )
        ]
    return []


@register()
def check_work_fits(app_configs: Any, **options: Any) -> list[CheckMessage]:
    """A task may take as long as its own deadline; the worker must not end it before."""
    from fleet.services.calibration import SECONDS  # noqa: PLC0415 (checks load before the models)
    from fleet.services.health import SWEEP_S  # noqa: PLC0415 (as above)

    cluster: dict[str, Any] = settings.Q_CLUSTER
    timeout = cluster.get("timeout")
    tasks = (("health sweeps", SWEEP_S, "fleet.W001"), ("measurements of nodes", SECONDS, "fleet.W002"))
    return [
        Warning(
            f"Q_CLUSTER['timeout'] ({timeout} s) ends {what}, which may take {longest:.0f} s.",
            hint=f"Set it above {longest:.0f}.",
            id=number,
        )
        for what, longest, number in tasks
        if timeout and timeout <= longest
    ]


@register()
def check_steps_fit(app_configs: Any, **options: Any) -> list[CheckMessage]:
    """Steps of batch jobs have a time of their own; handed out again earlier, each would come twice, for nothing."""
    from fleet.services.batch.engine import GRACE_S, SHORT_S  # noqa: PLC0415 (checks load before the models)

    cluster: dict[str, Any] = settings.Q_CLUSTER
    retry, longest = cluster.get("retry", 60), SHORT_S + GRACE_S
    if retry > longest:
        return []
    told = f"Q_CLUSTER['retry'] ({retry} s) hands out steps of batch jobs again that may run for {longest} s."
    return [Warning(told, hint=f"Set it above {longest}.", id="fleet.W003")]
