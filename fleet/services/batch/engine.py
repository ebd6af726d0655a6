"""The one interface through which steps of batch jobs are run: by django-q2's workers, or whatever else is set."""

from typing import NamedTuple, Protocol

from django.conf import settings
from django.utils.module_loading import import_string
from django_q.tasks import async_task

#: Seconds within which a step ends by itself: one of short calls, and one whose calls may each take minutes.
SHORT_S, LONG_S = 100, 700
#: Seconds beyond these after which a step is taken for hung.
GRACE_S = 15
ENGINES = {"django-q": "fleet.services.batch.engine.DjangoQ", "dask": "fleet.services.batch.dask_steps.Dask"}


class Step(NamedTuple):
    """A piece of work of some seconds: a function of `fleet.tasks.batch` and what it takes after the job's pk.

    It may be run twice, late, or not at all: each checks in the database whether it is still wanted, and the sweep
    finds what was lost. `seconds` is how long it may take at most.
    """

    task: str
    arguments: tuple[int, ...] = ()
    seconds: int = SHORT_S

    @property
    def path(self) -> str:
        return f"fleet.tasks.batch.{self.task}"


def turn(lane: int, number: int, *, long: bool) -> Step:
    """The step of a lane that works on its job's items."""
    return Step("work", (lane, number), LONG_S if long else SHORT_S)


NOTIFY = Step("notify")


class Engine(Protocol):
    """Runs steps somewhere, each soon, in no order; `enqueue` returns at once."""

    def enqueue(self, step: Step, job: int) -> None: ...


class DjangoQ:
    """Steps run in the workers of `manage.py qcluster`."""

    def enqueue(self, step: Step, job: int) -> None:
        # django-q2 ends a task by SIGALRM and then kills its process: that is for one that hangs, never for a slow one.
        timeout = step.seconds + GRACE_S
        async_task(step.path, job, *step.arguments, task_name=f"batch {job} {step.task}"[:100], timeout=timeout)


def engine() -> Engine:
    """The engine that the setting SOLLOL_BATCH_ENGINE names."""
    made: Engine = import_string(ENGINES[settings.ENV.sollol_batch_engine])()
    return made
