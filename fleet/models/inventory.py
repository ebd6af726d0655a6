"""What is installed and what is loaded on a node."""

from typing import ClassVar

from django.db import models
from django.db.models import Q

from fleet.models.node import Node
from fleet.models.revision import Routed


class NodeModel(Routed):
    """A model on one node: on its disk (`installed`), in its memory (`resident`), or both. Sizes in bytes.

    `key` is the canonical name, `name` the node's own spelling; `described`: /api/show was read for this digest.
    """

    node = models.ForeignKey(Node, on_delete=models.CASCADE, related_name="models")
    key = models.CharField("canonical name", max_length=600)
    name = models.CharField(max_length=600)
    digest = models.CharField(max_length=80, blank=True, db_index=True)
    installed = models.BooleanField(default=True)
    size = models.PositiveBigIntegerField(default=0, help_text="On disk, in bytes.")
    capabilities = models.JSONField(default=list, blank=True)
    parameters_b = models.FloatField("parameters (10⁹)", null=True, blank=True)
    quantization = models.CharField(max_length=32, blank=True)
    context_length = models.PositiveBigIntegerField(
        null=True, blank=True, help_text="Tokens the model was trained for."
    )
    described = models.BooleanField(default=False)

    resident = models.BooleanField(default=False)
    size_loaded = models.PositiveBigIntegerField(null=True, blank=True, help_text="In memory, in bytes.")
    size_vram = models.PositiveBigIntegerField(null=True, blank=True, help_text="Of that on GPUs, in bytes.")
    loaded_context = models.PositiveBigIntegerField(
        null=True, blank=True, help_text="num_ctx it was loaded with, in tokens."
    )
    expires_at = models.DateTimeField(null=True, blank=True, help_text="When the node will unload it.")

    #: Gateways see residency themselves, every two seconds; the snapshot does not carry it.
    unrouted: ClassVar[frozenset[str]] = frozenset(
        {"resident", "size_loaded", "size_vram", "loaded_context", "expires_at", "quantization", "described"}
    )

    class Meta:
        ordering = ("name",)
        verbose_name = "model on a node"
        verbose_name_plural = "models on nodes"
        constraints = (
            models.UniqueConstraint(fields=("node", "key"), name="nodemodel_once"),
            models.CheckConstraint(condition=~Q(key=""), name="nodemodel_key_given"),
            models.CheckConstraint(condition=Q(installed=True) | Q(resident=True), name="nodemodel_somewhere"),
        )
        indexes = (models.Index(fields=("key",), name="nodemodel_key"),)

    def __str__(self) -> str:
        return self.name
