"""Steps of batch jobs on a Dask cluster that is there already, instead of django-q2's own workers."""

import logging
import os
import threading
import time
import uuid
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # Dask's workers import this module before Django is set up
    from fleet.services.batch.engine import Step

log = logging.getLogger("sollol.batch")

#: Seconds for which a scheduler is waited for, and for which one that has not answered is not asked again.
CONNECT_S, AWAY_S = 5.0, 10.0

_lock = threading.Lock()
_clients: dict[int, Any] = {}
_away_until = 0.0


class Dask:
    """Steps run in the workers of the scheduler that the setting SOLLOL_DASK_SCHEDULER names."""

    def enqueue(self, step: "Step", job: int) -> None:
        distributed: Any = import_module("distributed")  # an optional extra
        try:
            # Each is its own: Dask would run two steps of one name once. Steps check whether they are still wanted.
            name = f"sollol-{step.task}-{job}-{uuid.uuid4().hex}"
            distributed.fire_and_forget(client().submit(run, step.path, job, step.arguments, key=name, pure=False))
        except (OSError, RuntimeError, TimeoutError) as error:
            # What was to be done is in the database: the sweep hands it over again.
            log.warning("Dask's scheduler cannot be reached, the step waits for the next sweep: %s", error)


def client() -> Any:
    """This process's connection to the scheduler; a forked process, or one that has lost it, gets a new one.

    Raises OSError where the scheduler does not answer, and for some seconds after that without asking it.
    """
    global _away_until  # noqa: PLW0603 (one connection for each process)
    from django.conf import settings  # noqa: PLC0415 (Dask's workers import this module before Django is set up)

    with _lock:
        known = _clients.get(os.getpid())
        if known is not None and known.status not in ("closed", "closing"):
            return known
        if time.monotonic() < _away_until:
            raise ConnectionError("it did not answer a moment ago")
        _away_until = time.monotonic() + CONNECT_S + AWAY_S
        distributed: Any = import_module("distributed")
        made = distributed.Client(settings.ENV.sollol_dask_scheduler, timeout=CONNECT_S, set_as_default=False)
        _away_until = 0.0
        _clients.clear()
        _clients[os.getpid()] = made
        return made


def run(path: str, job: int, arguments: tuple[int, ...]) -> str:
    """Run a step in a worker of Dask, which knows nothing of Django before the first one."""
    set_up()
    from django.db import connections  # noqa: PLC0415 (as above)
    from django.utils.module_loading import import_string  # noqa: PLC0415 (as above)

    try:
        return str(import_string(path)(job, *arguments))
    finally:
        # The thread's next step may come hours later.
        connections.close_all()


def set_up() -> None:
    import django  # noqa: PLC0415 (as above)
    from django.apps import apps  # noqa: PLC0415 (as above)

    with _lock:
        if not apps.ready:
            os.environ.setdefault("DJANGO_SETTINGS_MODULE", "sollol_site.settings")
            django.setup()
