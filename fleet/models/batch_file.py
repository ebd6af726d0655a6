"""Files of batch jobs: what clients upload for `/v1/batches`, and what they read when such a job has ended."""

import secrets

from django.db import models

from fleet.models.batch import BatchJob
from fleet.models.key import ApiKey
from fleet.models.team import Team

#: What public ids of files begin with, as OpenAI's do.
FILE_MARK = "file-"


def file_id() -> str:
    return f"{FILE_MARK}{secrets.token_hex(12)}"


class FileKind(models.TextChoices):
    """What is in a file: requests of a client, the answers of a job, or the requests of a job that have failed."""

    INPUT = "input"
    OUTPUT = "output"
    ERRORS = "errors"


class BatchFile(models.Model):
    """A file, of a client's requests or of what came of a job.

    Of an uploaded one the content is in `FilePart`s, so that each gateway and worker can read it whatever machine it
    runs on. What a job has brought is in its items, from which `output` and `errors` are written when they are read;
    `size` in bytes is then None until somebody has asked for it.
    """

    public_id = models.CharField("id", max_length=40, unique=True, default=file_id, editable=False)
    kind = models.CharField(max_length=8, choices=FileKind.choices, default=FileKind.INPUT)
    team = models.ForeignKey(Team, null=True, blank=True, on_delete=models.CASCADE, related_name="batch_files")
    key = models.ForeignKey(ApiKey, null=True, blank=True, on_delete=models.SET_NULL, related_name="+")
    job = models.ForeignKey(BatchJob, null=True, blank=True, on_delete=models.CASCADE, related_name="files")
    name = models.CharField(max_length=255)
    size = models.PositiveBigIntegerField("bytes", null=True, blank=True)
    complete = models.BooleanField(default=False)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("-created_at", "-id")
        verbose_name = "batch file"
        indexes = (
            models.Index(fields=("team", "-created_at", "-id"), name="batchfile_team"),
            models.Index(fields=("kind", "created_at"), name="batchfile_kind"),
        )
        constraints = (
            models.UniqueConstraint(
                fields=("job", "kind"), condition=models.Q(job__isnull=False), name="batchfile_of_job"
            ),
            models.CheckConstraint(condition=models.Q(kind__in=FileKind.values), name="batchfile_kind_known"),
        )

    def __str__(self) -> str:
        return self.public_id


class FilePart(models.Model):
    """A piece of an uploaded file, the `number`th from 0, deflated."""

    file = models.ForeignKey(BatchFile, on_delete=models.CASCADE, related_name="parts", db_index=False)
    number = models.PositiveIntegerField()
    data = models.BinaryField()

    class Meta:
        ordering = ("file", "number")
        constraints = (models.UniqueConstraint(fields=("file", "number"), name="filepart_number"),)

    def __str__(self) -> str:
        return f"part {self.number} of {self.file_id}"
