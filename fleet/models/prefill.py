"""What probes have found models to do with an unfinished assistant message, by digest."""

from django.db import models
from django.db.models import Q

from fleet.models.revision import Routed
from routing.core.resuming import Behaviour

BEHAVIOURS = (
    (Behaviour.CONTINUE.value, "continues"),
    (Behaviour.TRIM.value, "trims white space"),
    (Behaviour.RESTART.value, "starts anew"),
    (Behaviour.UNCLEAR.value, "unclear"),
)


class PrefillProbe(Routed):
    """The last probe of one model; streams that break off go on elsewhere only of models that continue."""

    digest = models.CharField(max_length=128, unique=True, help_text="The manifest's, as nodes tell it.")
    model = models.CharField(max_length=600, help_text="A name of it.")
    behaviour = models.CharField(
        max_length=16, choices=BEHAVIOURS, help_text="What it does with an unfinished assistant message."
    )
    detail = models.TextField(blank=True, help_text="What it said, where it does not continue.")
    node_name = models.CharField("probed on", max_length=64, blank=True)
    probed_at = models.DateTimeField("probed")
    again = models.BooleanField("to be probed again", default=False)

    class Meta:
        ordering = ("model", "digest")
        verbose_name = "prefill probe"
        constraints = (
            models.CheckConstraint(
                condition=Q(behaviour__in=[value for value, _ in BEHAVIOURS]), name="prefillprobe_behaviour"
            ),
            models.CheckConstraint(condition=~Q(digest=""), name="prefillprobe_digest_given"),
        )

    def __str__(self) -> str:
        return f"{self.model} ({self.digest[:12]}): {self.get_behaviour_display()}"
