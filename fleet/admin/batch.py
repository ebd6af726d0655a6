"""Batch jobs: how far they are, what has failed and why, and what can be done about it."""

from collections.abc import Callable
from typing import Any, NamedTuple

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed, HttpResponseRedirect
from django.urls import URLPattern, path, reverse
from django.utils import timezone

from fleet.admin.bars import bar
from fleet.admin.page import HistoryAdmin, TeamFilter, TeamRows, ago, column, unbroken
from fleet.models import BatchJob, JobState
from fleet.selectors import access, batch
from fleet.services.batch import jobs
from fleet.services.batch.jobs import NotNow

#: Jobs whose refusal a message tells one by one.
TOLD = 5
COLOURS = {
    JobState.VALIDATING.label: "info",
    JobState.IN_PROGRESS.label: "info",
    JobState.PAUSED.label: "warning",
    JobState.FINALIZING.label: "info",
    JobState.COMPLETED.label: "success",
    JobState.FAILED.label: "danger",
    JobState.EXPIRED.label: "danger",
    JobState.CANCELLING.label: "warning",
    JobState.CANCELLED.label: "",
}
OPEN = (JobState.VALIDATING, JobState.IN_PROGRESS, JobState.PAUSED)


class Act(NamedTuple):
    """What can be done to a job: the function, the words on its button and in the log, the states it fits."""

    run: Callable[[BatchJob], object]
    button: str
    done: str
    states: tuple[str, ...]


ACTS = {
    "pause": Act(jobs.pause, "Pause", "Paused.", (JobState.IN_PROGRESS,)),
    "resume": Act(jobs.resume, "Resume", "Resumed.", (JobState.PAUSED,)),
    "retry": Act(
        jobs.retry_failed,
        "Retry failed",
        "Failed items are retried.",
        (JobState.IN_PROGRESS, JobState.PAUSED, JobState.COMPLETED, JobState.FAILED),
    ),
    "cancel": Act(jobs.cancel, "Cancel", "Cancelled.", OPEN),
}


@admin.register(BatchJob)
class BatchJobAdmin(TeamRows, HistoryAdmin):
    list_display = (
        "public_id", "team", "what", "state_", "progress", "speed", "left", "priority", "created",
    )  # fmt: skip
    list_filter = ("state", TeamFilter, "endpoint")
    list_select_related = ("team",)
    search_fields = ("public_id", "model", "key_prefix", "source")
    search_help_text = "Id, model, start of the key or id of its file"
    actions = ("pause_jobs", "resume_jobs", "retry_jobs", "cancel_jobs")
    change_form_outer_before_template = "admin/fleet/batchjob/job.html"
    readonly_fields = ("state_", "given")
    fieldsets = (
        (
            None,
            {
                "fields": (
                    ("public_id", "state_"), ("team", "created_by"), ("key_prefix", "priority"), ("endpoint", "model"),
                    "given", ("created_at", "started_at"), ("ended_at", "expires_at"),
                ),
            },
        ),
        ("Callback", {"fields": (("callback_url", "callback_tries"), "callback_error"), "classes": ("collapse",)}),
    )  # fmt: skip

    def has_steer_permission(self, request: HttpRequest) -> bool:
        """Rows are the machine's; what is done to a job wants the permission to change it."""
        user: Any = request.user
        return bool(user.has_perm("fleet.change_batchjob"))

    def get_urls(self) -> list[URLPattern]:
        act = path("<int:pk>/act/<str:name>/", self.admin_site.admin_view(self.act), name="fleet_batchjob_act")
        return [act, *super().get_urls()]

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        job = self.get_object(request, object_id)
        context = {} if job is None else {"job": self.told(request, job)}
        answer: HttpResponse = super().change_view(request, object_id, form_url, (extra_context or {}) | context)
        return answer

    def told(self, request: HttpRequest, job: BatchJob) -> dict[str, Any]:
        """What the page tells above the job's columns."""
        failures = batch.failures(job) if job.failed else []
        mine = self.has_steer_permission(request) and self.is_own(request, job)
        return {
            "bar": progress_bar(job),
            "facts": [("Items per second", self.speed(job)), ("Time left", self.left(job))],
            "reason": job.reason,
            "faults": job.faults,
            "failures": failures,
            "untold": job.failed - sum(count for _, count in failures),
            "buttons": [(name, act.button) for name, act in ACTS.items() if mine and fits(job, name)],
            "pk": job.pk,
            "results": reverse("batch-results", args=(job.public_id,)) if job.ended and job.total else "",
        }

    def act(self, request: HttpRequest, pk: int, name: str) -> HttpResponse:
        """A button of a job's page."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        job = self.get_queryset(request).filter(pk=pk).first()
        if job is None or name not in ACTS:
            raise Http404
        if not (self.has_steer_permission(request) and self.is_own(request, job)):
            raise PermissionDenied
        self.carry_out(request, name, [job])
        return HttpResponseRedirect(reverse("admin:fleet_batchjob_change", args=(pk,)))

    def carry_out(self, request: HttpRequest, name: str, chosen: list[BatchJob]) -> None:
        """Do it to each job that it fits; say how many those were, and why others were not."""
        done, refused = 0, []
        for job in chosen:
            try:
                ACTS[name].run(job)
            except NotNow as error:
                refused.append(f"{job}: {error}")
            else:
                done += 1
                self.log_change(request, job, ACTS[name].done)
        if done:
            self.message_user(request, f"{ACTS[name].done} ({done} of {len(chosen)} jobs)", messages.SUCCESS)
        for text in refused[:TOLD]:
            self.message_user(request, text, messages.WARNING)
        if more := len(refused[TOLD:]):
            self.message_user(request, f"It does not fit {more} more jobs.", messages.WARNING)

    def permitted(self, request: HttpRequest, rows: QuerySet[BatchJob]) -> list[BatchJob]:
        """Of the chosen jobs those that the person may change; tells how many others there are."""
        own = list(access.changed(request.user, rows))
        if others := rows.count() - len(own):
            self.message_user(request, f"{others} of the jobs are beyond what you may change.", messages.ERROR)
        return own

    @admin.action(description="Pause", permissions=("steer",))
    def pause_jobs(self, request: HttpRequest, rows: QuerySet[BatchJob]) -> None:
        self.carry_out(request, "pause", self.permitted(request, rows))

    @admin.action(description="Resume", permissions=("steer",))
    def resume_jobs(self, request: HttpRequest, rows: QuerySet[BatchJob]) -> None:
        self.carry_out(request, "resume", self.permitted(request, rows))

    @admin.action(description="Retry failed items", permissions=("steer",))
    def retry_jobs(self, request: HttpRequest, rows: QuerySet[BatchJob]) -> None:
        self.carry_out(request, "retry", self.permitted(request, rows))

    @admin.action(description="Cancel", permissions=("steer",))
    def cancel_jobs(self, request: HttpRequest, rows: QuerySet[BatchJob]) -> None:
        self.carry_out(request, "cancel", self.permitted(request, rows))

    @column("What", ordering="model")
    def what(self, job: BatchJob) -> str:
        models = job.model or ("several models" if job.total else "")
        return f"{models}, {job.endpoint}" if models else job.endpoint

    @column("State", ordering="state", **COLOURS)
    def state_(self, job: BatchJob) -> str:
        return JobState(job.state).label

    @column("Progress")
    def progress(self, job: BatchJob) -> str:
        return progress_bar(job)

    @column("Items/s")
    def speed(self, job: BatchJob) -> str:
        rate = batch.progress(job, timezone.now()).rate
        return "-" if rate is None else f"{rate:,.1f}"

    @column("Time left")
    def left(self, job: BatchJob) -> str:
        seconds = batch.progress(job, timezone.now()).left_s
        return "-" if seconds is None or job.ended else lasting(seconds)

    @column("Created", ordering="created_at")
    def created(self, job: BatchJob) -> str:
        return ago(job.created_at)

    @column("Given with it")
    def given(self, job: BatchJob) -> str:
        told = {**job.parameters, **job.metadata}
        if job.source:
            told |= {"input_file_id": job.source, "completion_window": job.window}
        return ", ".join(f"{name}: {value}" for name, value in told.items()) or "-"


def fits(job: BatchJob, name: str) -> bool:
    return job.state in ACTS[name].states and (name != "retry" or job.failed > 0)


def progress_bar(job: BatchJob) -> str:
    """How much of a job has ended, in numbers and as a bar."""
    ended = job.completed + job.failed
    note = f"{job.failed:,} failed" if job.failed else ""
    return bar(ended, job.total or None, unbroken(f"{ended:,} of {job.total:,}"), note)


def lasting(seconds: float) -> str:
    """A time to come in its two largest units."""
    whole = round(seconds)
    for size, unit, part, small in ((86_400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            return unbroken(f"{whole // size} {unit} {whole % size // part} {small}")
    return unbroken(f"{whole} s")
