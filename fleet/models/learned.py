"""What gateways have learned, so that a restart does not forget it: the rows of routing.core.learned."""

from django.db import models
from django.db.models import Q

from fleet.models.node import Node


def above_zero(*names: str) -> Q:
    return Q(**{f"{name}__gt": 0 for name in names})


class LearnedSpeed(models.Model):
    """One model on one node, alone: seconds per prompt token, answer token and load; seen 0 times: a guess."""

    node = models.ForeignKey(Node, on_delete=models.CASCADE, related_name="speeds", db_index=False)
    weights = models.CharField(max_length=640, help_text="What runs: the digest, or a name where there is none.")
    model = models.CharField(max_length=600, blank=True)
    prompt_s = models.FloatField()
    prompt_seen = models.PositiveBigIntegerField(default=0)
    output_s = models.FloatField()
    output_seen = models.PositiveBigIntegerField(default=0)
    load_s = models.FloatField()
    load_seen = models.PositiveBigIntegerField(default=0)
    updated_at = models.DateTimeField()

    class Meta:
        ordering = ("node__name", "model")
        constraints = (
            models.UniqueConstraint(fields=("node", "weights"), name="learnedspeed_once"),
            models.CheckConstraint(condition=~Q(weights=""), name="learnedspeed_weights_given"),
            models.CheckConstraint(
                condition=above_zero("prompt_s", "output_s", "load_s"), name="learnedspeed_above_zero"
            ),
        )

    def __str__(self) -> str:
        return f"{self.model or self.weights} on {self.node}"


class LearnedNode(models.Model):
    """How a node's total speed grows with k requests at once: k ** alpha."""

    node = models.OneToOneField(Node, on_delete=models.CASCADE, primary_key=True, related_name="learned")
    alpha = models.FloatField()
    seen = models.PositiveBigIntegerField(default=0)
    updated_at = models.DateTimeField()

    class Meta:
        constraints = (models.CheckConstraint(condition=above_zero("alpha"), name="learnednode_above_zero"),)

    def __str__(self) -> str:
        return f"k ** {self.alpha:.2f}"


class LearnedLength(models.Model):
    """The answers of one model to one kind of task, in tokens; `last` holds the latest, oldest first."""

    task = models.CharField(max_length=32)
    model = models.CharField(max_length=600)
    mean = models.FloatField()
    seen = models.PositiveBigIntegerField(default=0)
    last = models.JSONField(default=list)
    updated_at = models.DateTimeField()

    class Meta:
        ordering = ("task", "model")
        constraints = (
            models.UniqueConstraint(fields=("task", "model"), name="learnedlength_once"),
            models.CheckConstraint(condition=Q(mean__gte=0), name="learnedlength_mean"),
        )

    def __str__(self) -> str:
        return f"{self.task}, {self.model}: {self.mean:.0f} tokens"


class LearnedText(models.Model):
    """How many characters of text one token of a model stands for."""

    model = models.CharField(max_length=600, unique=True)
    characters_per_token = models.FloatField()
    seen = models.PositiveBigIntegerField(default=0)
    updated_at = models.DateTimeField()

    class Meta:
        ordering = ("model",)
        constraints = (
            models.CheckConstraint(condition=above_zero("characters_per_token"), name="learnedtext_above_zero"),
        )

    def __str__(self) -> str:
        return f"{self.model}: {self.characters_per_token:.1f} characters"
