"""Batch jobs: many inputs for one endpoint, worked off in the background when nobody else needs the fleet."""

import secrets

from django.conf import settings
from django.db import models
from django.db.models import F, Q

from fleet.models.key import ApiKey
from fleet.models.policy import HIGHEST, LOWEST
from fleet.models.team import Team

#: What public ids of jobs begin with, as OpenAI's do.
MARK = "batch_"


def public_id() -> str:
    return f"{MARK}{secrets.token_hex(12)}"


class JobState(models.TextChoices):
    """OpenAI's names of the states of a batch, and `paused`."""

    VALIDATING = "validating", "validating"
    IN_PROGRESS = "in_progress", "in progress"
    PAUSED = "paused", "paused"
    FINALIZING = "finalizing", "finalizing"
    COMPLETED = "completed", "completed"
    FAILED = "failed", "failed"
    EXPIRED = "expired", "expired"
    CANCELLING = "cancelling", "cancelling"
    CANCELLED = "cancelled", "cancelled"


#: States in which steps do something, and those that a job ends in.
WORKING = (JobState.IN_PROGRESS, JobState.FINALIZING, JobState.CANCELLING)
ENDED = (JobState.COMPLETED, JobState.FAILED, JobState.EXPIRED, JobState.CANCELLED)


class Endpoint(models.TextChoices):
    """What a job's inputs are sent to.

    Inputs of `/api/embed` are texts, of which many go into one call; those of the others are whole request bodies,
    one a call.
    """

    EMBED = "/api/embed", "embeddings (/api/embed)"
    CHAT = "/api/chat", "chat (/api/chat)"
    V1_EMBEDDINGS = "/v1/embeddings", "embeddings (/v1/embeddings)"
    V1_CHAT = "/v1/chat/completions", "chat (/v1/chat/completions)"


class ItemState(models.TextChoices):
    WAITING = "waiting"
    CLAIMED = "claimed"
    DONE = "done"
    FAILED = "failed"


class BatchJob(models.Model):
    """One job. `completed` and `failed` are items that have ended so; they and what has not ended add up to `total`.

    `reason` tells why it failed or is paused. `characters` is the length of all inputs, `tokens` what nodes counted.
    `width` is the length of its vectors. `parameters` are members of each call's body beside model and input.
    `source` is the id of the file that its inputs come from, `window` the time that its client has given it, as told,
    `faults` what is wrong with the file (line, code, message, param), where a job came by `/v1/batches`.
    `pace` is what was learned of its nodes (characters per second by name), `marks` are moments (epoch seconds) with
    the number of items that had ended then, from which its rate is told.
    """

    public_id = models.CharField("id", max_length=40, unique=True, default=public_id, editable=False)
    team = models.ForeignKey(Team, null=True, blank=True, on_delete=models.CASCADE, related_name="batch_jobs")
    key = models.ForeignKey(ApiKey, null=True, blank=True, on_delete=models.SET_NULL, related_name="+")
    key_prefix = models.CharField("key", max_length=16, blank=True)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.SET_NULL, related_name="+"
    )
    endpoint = models.CharField(max_length=32, choices=Endpoint.choices, default=Endpoint.EMBED)
    model = models.CharField(max_length=255, blank=True)
    parameters = models.JSONField(default=dict, blank=True)
    metadata = models.JSONField(default=dict, blank=True)
    priority = models.PositiveSmallIntegerField(default=LOWEST)
    source = models.CharField(max_length=40, blank=True)
    window = models.CharField(max_length=8, blank=True)
    faults = models.JSONField(default=list, blank=True)
    state = models.CharField(max_length=12, choices=JobState.choices, default=JobState.VALIDATING)
    reason = models.TextField(blank=True)
    total = models.PositiveBigIntegerField("items", default=0)
    completed = models.PositiveBigIntegerField(default=0)
    failed = models.PositiveBigIntegerField(default=0)
    characters = models.PositiveBigIntegerField(default=0)
    tokens = models.PositiveBigIntegerField(default=0)
    width = models.PositiveIntegerField(default=0)
    pace = models.JSONField(default=dict, blank=True)
    marks = models.JSONField(default=list, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)
    started_at = models.DateTimeField(null=True, blank=True)
    finalizing_at = models.DateTimeField(null=True, blank=True)
    cancelling_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)
    expires_at = models.DateTimeField(null=True, blank=True, help_text="Not completed by then, it ends as expired.")
    callback_url = models.URLField(max_length=1000, blank=True)
    callback_tries = models.PositiveSmallIntegerField(default=0)
    callback_due_at = models.DateTimeField(null=True, blank=True)
    callback_error = models.TextField(blank=True)

    class Meta:
        ordering = ("-created_at", "-id")
        verbose_name = "batch job"
        indexes = (
            models.Index(fields=("-created_at", "-id"), name="batchjob_newest"),
            models.Index(fields=("team", "-created_at"), name="batchjob_team"),
            models.Index(fields=("state", "-created_at"), name="batchjob_state"),
            models.Index(fields=("callback_due_at",), condition=~Q(callback_due_at=None), name="batchjob_callback"),
        )
        constraints = (
            models.CheckConstraint(condition=Q(state__in=JobState.values), name="batchjob_state_known"),
            models.CheckConstraint(condition=Q(endpoint__in=Endpoint.values), name="batchjob_endpoint"),
            models.CheckConstraint(condition=Q(priority__range=(LOWEST, HIGHEST)), name="batchjob_priority"),
            models.CheckConstraint(condition=Q(total__gte=F("completed") + F("failed")), name="batchjob_adds_up"),
        )

    def __str__(self) -> str:
        return self.public_id

    @property
    def ended(self) -> bool:
        return self.state in ENDED

    @property
    def groups(self) -> bool:
        """Whether many inputs go into one call."""
        return self.endpoint == Endpoint.EMBED

    @property
    def open(self) -> int:
        """Items that have not ended."""
        return int(self.total - self.completed - self.failed)


class BatchItem(models.Model):
    """One input of a job, the `number`th from 0.

    `body` is its text, or a request body as JSON. A step holds it by `claim` until `until`, and stores what came of it
    only while it does. `attempts` are failed ones that it was alone in; it waits for the next until `due_at`.
    `result` is packed as `services.batch.packing` tells; `status` the HTTP status, `reason` why it failed.
    """

    job = models.ForeignKey(BatchJob, on_delete=models.CASCADE, related_name="items", db_index=False)
    number = models.PositiveBigIntegerField()
    custom_id = models.CharField(max_length=512, blank=True)
    body = models.TextField()
    state = models.CharField(max_length=8, choices=ItemState.choices, default=ItemState.WAITING)
    claim = models.CharField(max_length=32, blank=True)
    until = models.DateTimeField(null=True, blank=True)
    due_at = models.DateTimeField(null=True, blank=True)
    attempts = models.PositiveSmallIntegerField(default=0)
    status = models.PositiveSmallIntegerField(null=True, blank=True)
    reason = models.TextField(blank=True)
    request_id = models.CharField(max_length=64, blank=True)
    result = models.BinaryField(null=True, blank=True)

    class Meta:
        ordering = ("job", "number")
        verbose_name = "batch item"
        indexes = (
            models.Index(fields=("job", "number"), condition=Q(state="waiting"), name="batchitem_waiting"),
            models.Index(fields=("job", "claim", "until"), condition=Q(state="claimed"), name="batchitem_claimed"),
            models.Index(fields=("job", "number"), condition=Q(state="failed"), name="batchitem_failed"),
        )
        constraints = (
            models.UniqueConstraint(fields=("job", "number"), name="batchitem_number"),
            models.UniqueConstraint(
                fields=("job", "custom_id"), condition=~Q(custom_id=""), name="batchitem_custom_id"
            ),
            models.CheckConstraint(condition=Q(state__in=ItemState.values), name="batchitem_state"),
        )

    def __str__(self) -> str:
        return f"item {self.number} of {self.job_id}"


class BatchLane(models.Model):
    """A chain of steps that works on a job; a large job has several.

    Each step is one `turn`; one that comes twice finds its turn taken. A lane of which nothing is heard by `until` has
    lost its step, and the sweep gives it a new one.
    """

    job = models.ForeignKey(BatchJob, on_delete=models.CASCADE, related_name="lanes", db_index=False)
    number = models.PositiveSmallIntegerField()
    turn = models.PositiveBigIntegerField(default=0)
    until = models.DateTimeField()

    class Meta:
        ordering = ("job", "number")
        constraints = (models.UniqueConstraint(fields=("job", "number"), name="batchlane_once"),)
        indexes = (models.Index(fields=("until",), name="batchlane_until"),)

    def __str__(self) -> str:
        return f"lane {self.number} of {self.job_id}"
