"""A node: one Ollama server, as the operator configured it, and apart from that what was last observed of it."""

import ipaddress
import math
import re
from typing import Any, ClassVar
from urllib.parse import SplitResult, urlsplit

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Lower

from fleet.models.revision import Routed

DEFAULT_PORT = 11434
GIB = 2**30
HOST = re.compile(r"(?=.{1,253}\Z)[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*\.?")
NAME = RegexValidator(
    r"\A[A-Za-z0-9][A-Za-z0-9._:-]*\Z",
    "Use letters, digits, dots, dashes, underscores and colons; start with a letter or digit.",
)
HEADER_NAME = RegexValidator(r"\A[A-Za-z0-9!#$%&'*+.^_`|~-]*\Z", "This is not the name of an HTTP header.")
HEADER_VALUE = RegexValidator(r"\A[\x20-\x7e]*\Z", "Use printable ASCII characters only; no line breaks.")
#: Headers that carry a request's own framing; a node's credentials never belong there.
FRAMING = frozenset({"host", "content-length", "content-type", "transfer-encoding", "connection", "accept-encoding"})


def normal_url(text: str) -> str:
    """`http(s)://host:port` of what an operator typed; a bare `host` is http on port 11434.

    Raises ValidationError that says what to change.
    """
    text = text.strip()
    if not text:
        raise ValidationError("Enter the node's address, for example http://gpu-1:11434.", code="required")
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
        port = parts.port
    except ValueError as error:
        raise ValidationError(f"This is not an address: {error}.", code="invalid") from None
    host = checked_host(parts)
    if port is None:
        port = DEFAULT_PORT if "://" not in text else {"http": 80, "https": 443}[parts.scheme]
    if port == 0:
        raise ValidationError("Port 0 cannot be reached.", code="invalid")
    return f"{parts.scheme}://{host}:{port}"


def checked_host(parts: SplitResult) -> str:
    if parts.scheme not in ("http", "https"):
        raise ValidationError(
            "A node is reached by http:// or https://, not %(scheme)s://.", params={"scheme": parts.scheme}
        )
    if parts.username is not None or parts.password is not None:
        raise ValidationError(
            "Leave user and password out of the address; use the credentials header.", code="userinfo"
        )
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise ValidationError("Give scheme, host and port only; no path, query or fragment.", code="path")
    host = (parts.hostname or "").lower()
    if ":" in host:
        try:
            return f"[{ipaddress.IPv6Address(host).compressed}]"
        except ValueError:
            raise ValidationError("This is not an IPv6 address.", code="invalid") from None
    if not HOST.fullmatch(host):
        raise ValidationError("The address has no valid host name.", code="host")
    return host


def is_text(value: object) -> bool:
    """Whether it is a text without control characters and broken ones, which PostgreSQL does not take within JSON."""
    return isinstance(value, str) and value.isprintable()


def check_labels(labels: object) -> None:
    if not isinstance(labels, dict) or not all(is_text(v) and is_text(k) and k for k, v in labels.items()):
        raise ValidationError('Labels are names with text values, for example {"rack": "a1"}.')


def check_finite(value: float) -> None:
    if not math.isfinite(value):
        raise ValidationError("Enter a number.")


class NodeClass(models.TextChoices):
    GPU = "gpu", "GPU"
    CPU = "cpu", "CPU only"


def positive(**options: Any) -> Any:
    return models.FloatField(null=True, blank=True, validators=[check_finite, MinValueValidator(0.001)], **options)


class Node(Routed):
    """One Ollama server as configured. Memory in GiB; what none of Ollama's routes can tell must be told here."""

    name = models.CharField(max_length=64, validators=[NAME], help_text="Short name; answers carry it in a header.")
    url = models.CharField(
        "address",
        max_length=300,
        unique=True,
        error_messages={"unique": "A node with this address exists already."},
        help_text="http:// or https://, host and port. A bare host gets port 11434.",
    )
    region = models.CharField(max_length=64, blank=True, help_text="Where it stands, for policies that care.")
    labels = models.JSONField(
        default=dict, blank=True, validators=[check_labels], help_text='For example {"rack": "a1"}.'
    )
    enabled = models.BooleanField(default=True, help_text="Off: never used and not probed.")
    draining = models.BooleanField(default=False, help_text="On: running requests finish, no new ones come.")
    cloud = models.BooleanField(
        default=False,
        help_text="On: signed in at ollama.com; cloud models and requests about the account go to this node. "
        "If it is off everywhere, the node that was added first stands in.",
    )
    weight = models.FloatField(
        default=1.0,
        validators=[check_finite, MinValueValidator(0.001), MaxValueValidator(1000)],
        help_text="Preference among equals: 2 is liked twice as much as 1.",
    )
    cost_per_hour = models.FloatField(
        default=0.0,
        validators=[check_finite, MinValueValidator(0.0)],
        help_text="What an hour costs, in any one currency.",
    )
    header_name = models.CharField(
        "credentials header",
        max_length=100,
        blank=True,
        validators=[HEADER_NAME],
        help_text="For a node behind a proxy that asks for one: sent with every request, for example Authorization.",
    )
    header_value = models.CharField(
        "credentials",
        max_length=4000,
        blank=True,
        validators=[HEADER_VALUE],
        help_text="The header's value, for example Bearer … Kept readable in the database, because it must be sent.",
    )

    node_class = models.CharField(
        "class",
        max_length=3,
        choices=NodeClass.choices,
        default=NodeClass.GPU,
        help_text="CPU nodes get light work only.",
    )
    slots = models.PositiveSmallIntegerField(
        default=1,
        validators=[MinValueValidator(1), MaxValueValidator(1024)],
        help_text="Requests that one loaded model serves at a time: OLLAMA_NUM_PARALLEL on the node.",
    )
    max_loaded = models.PositiveSmallIntegerField(
        "most models loaded",
        null=True,
        blank=True,
        validators=[MinValueValidator(1)],
        help_text="OLLAMA_MAX_LOADED_MODELS on the node; empty if unset there.",
    )
    gpu = models.CharField("GPU", max_length=100, blank=True, help_text="For people, for example 2 x RTX 4090.")
    vram_gb = positive(verbose_name="VRAM (GiB)", help_text="Of all GPUs together.")
    ram_gb = positive(verbose_name="RAM (GiB)")
    cores = models.PositiveSmallIntegerField("CPU cores", null=True, blank=True, validators=[MinValueValidator(1)])

    relearn_at = models.DateTimeField(
        null=True, editable=False, help_text="When what was learned of it was last forgotten or measured."
    )
    created_at = models.DateTimeField(auto_now_add=True)
    changed_at = models.DateTimeField(auto_now=True)

    unrouted: ClassVar[frozenset[str]] = frozenset({"gpu", "cores", "created_at", "changed_at"})

    class Meta:
        ordering = ("name",)
        constraints = (
            models.UniqueConstraint(
                Lower("name"), name="node_name", violation_error_message="A node with this name exists already."
            ),
            models.CheckConstraint(condition=~Q(name=""), name="node_name_given"),
            models.CheckConstraint(
                condition=Q(url__startswith="http://") | Q(url__startswith="https://"),
                name="node_url_http",
                violation_error_message="A node is reached by http:// or https://.",
            ),
            models.CheckConstraint(
                condition=Q(slots__gte=1), name="node_slots", violation_error_message="A node has at least one slot."
            ),
            models.CheckConstraint(condition=Q(max_loaded=None) | Q(max_loaded__gte=1), name="node_max_loaded"),
            models.CheckConstraint(condition=Q(cores=None) | Q(cores__gte=1), name="node_cores"),
            models.CheckConstraint(condition=Q(vram_gb=None) | Q(vram_gb__gt=0), name="node_vram"),
            models.CheckConstraint(condition=Q(ram_gb=None) | Q(ram_gb__gt=0), name="node_ram"),
            models.CheckConstraint(condition=Q(weight__gt=0), name="node_weight"),
            models.CheckConstraint(condition=Q(cost_per_hour__gte=0), name="node_cost"),
            models.CheckConstraint(condition=Q(node_class__in=("gpu", "cpu")), name="node_class"),
            models.CheckConstraint(
                condition=Q(header_name="", header_value="") | (~Q(header_name="") & ~Q(header_value="")),
                name="node_header_whole",
                violation_error_message="Give the credentials header's name and value, or neither.",
            ),
        )

    def __str__(self) -> str:
        return self.name

    def clean_fields(self, exclude: Any = None) -> None:
        """Normalises the address first, so that two spellings of one address count as one."""
        faults: dict[str, Any] = {}
        if "url" not in (exclude or ()):
            try:
                self.url = normal_url(self.url)
            except ValidationError as error:
                faults["url"] = error.error_list
        if self.header_name.lower() in FRAMING:
            faults["header_name"] = ValidationError(
                "This header belongs to each request; credentials cannot use it."
            ).error_list
        try:
            super().clean_fields(exclude={*(exclude or ()), *faults})
        except ValidationError as error:
            faults = error.update_error_dict(faults)
        if faults:
            raise ValidationError(faults)

    @property
    def seen(self) -> "NodeObservation":
        """What was last observed; blank if the node was never looked at."""
        try:
            return self.observation
        except NodeObservation.DoesNotExist:
            return NodeObservation(node=self)


class NodeObservation(models.Model):
    """What the last look at a node found; a row of its own, so that an operator's edit never overwrites it."""

    node = models.OneToOneField(Node, on_delete=models.CASCADE, primary_key=True, related_name="observation")
    reachable = models.BooleanField(null=True, help_text="Empty: never looked at.")
    checked_at = models.DateTimeField(null=True)
    last_seen = models.DateTimeField(null=True, help_text="When it last answered as an Ollama server does.")
    last_error = models.TextField(blank=True)
    latency_ms = models.FloatField(null=True, help_text="Time of GET /api/version.")
    version = models.CharField(max_length=64, blank=True)
    vram_used = models.PositiveBigIntegerField(null=True, help_text="GPU memory of the resident models, in bytes.")

    class Meta:
        constraints = (
            models.CheckConstraint(condition=Q(latency_ms=None) | Q(latency_ms__gte=0), name="observation_latency"),
            models.CheckConstraint(
                condition=Q(last_seen=None) | Q(checked_at=None) | Q(last_seen__lte=F("checked_at")),
                name="observation_times",
            ),
        )

    def __str__(self) -> str:
        return {None: "never looked at", True: "up", False: "down"}[self.reachable]
