"""Recorded traffic through another policy or another fleet."""

import json
from argparse import ArgumentParser
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from fleet.management import replay_text
from fleet.management.curves import svg
from fleet.management.progress import Progress
from fleet.management.replay_options import check, filter_of, span_of, subject, told_moment, variants_of
from fleet.selectors.recorded import recorded, transitions
from fleet.services.learning import load_learned
from fleet.services.replay.changes import Fleet
from fleet.services.replay.fidelity import fidelity
from fleet.services.replay.outages import outages
from fleet.services.replay.past import Past, only, past
from fleet.services.replay.runs import Filter, Told, Variant, offered, really, tried
from fleet.snapshot import load_snapshot
from routing.core.dispatcher import Limits
from routing.whatif.profiles import grounds, machines_of

#: Requests that are replayed at most where nothing else is said.
MOST = 50_000


class Command(BaseCommand):
    help = (
        "Run recorded traffic once more, in virtual time, through another strategy or another fleet. The gateway's own "
        "dispatcher places the requests on modelled nodes, which are as fast as was learned of the real ones; recorded "
        "latencies are not replayed. First it tells how well the model repeats what happened. Nothing is stored."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        span = parser.add_argument_group("which traffic")
        span.add_argument("--last", default="24h", help="How far back: 90m, 24h, 7d. Default: 24h.")
        span.add_argument("--since", help="From this moment on, instead of --last: 2026-01-31 or '2026-01-31 08:00'.")
        span.add_argument("--until", help="Up to this moment; default: now.")
        span.add_argument("--team", help="Tell of this team's requests only; those of others still run beside them.")
        span.add_argument("--model", action="append", help="Tell of this model's requests only; may be repeated.")
        span.add_argument("--only", action="store_true", help="Run those requests alone, without the others.")
        span.add_argument("--limit", type=int, default=MOST, help=f"The newest so many requests. Default: {MOST}.")
        change = parser.add_argument_group("what to try")
        change.add_argument(
            "--strategy",
            action="append",
            metavar="NAME",
            help="A strategy of the gateway, or a plain balancer; repeatable.",
        )
        change.add_argument(
            "--add-node",
            action="append",
            metavar="OPTIONS",
            help="name=x,class=gpu,vram=24,ram=64,slots=4,max_loaded=3,models=all,like=ant: memory in GiB; models are "
            "all that fit, or some joined by +; like copies a node's hardware, models and learned speeds.",
        )
        change.add_argument("--remove-node", action="append", metavar="NODE", help="Without this node.")
        change.add_argument("--slots", action="append", metavar="NODE=N", help="With N slots on this node.")
        change.add_argument(
            "--load-factor", "--speedup", type=float, default=1.0, help="Arrivals so many times denser. Default: 1."
        )
        told = parser.add_argument_group("how it is told")
        told.add_argument("--seeds", type=int, default=3, help="Runs of each variant with different noise. Default: 3.")
        told.add_argument("--plot", type=Path, metavar="FILE.svg", help="Write a plot of the times' distributions.")
        told.add_argument("--json", action="store_true", help="Print JSON.")

    def handle(self, *args: Any, **options: Any) -> None:
        fleet = Fleet(load_snapshot(), load_learned())
        if not fleet.nodes:
            raise CommandError("there are no nodes in use; add one: manage.py seed_nodes gpu-1:11434?slots=4")
        try:
            check(options)
            span = span_of(options)
            variants, wanted = variants_of(fleet, options), filter_of(options)
            happened = self.past(fleet, span, wanted, options)
        except ValueError as error:
            raise CommandError(str(error)) from None
        replay = self.run(fleet, happened, variants, wanted, options)
        if options["plot"]:
            write_plot(options["plot"], replay)
        self.stdout.write(
            json.dumps(replay_text.as_dict(replay), indent=2) if options["json"] else replay_text.text(replay)
        )

    def run(
        self, fleet: Fleet, happened: Past, variants: Sequence[Variant], wanted: Filter, options: dict[str, Any]
    ) -> replay_text.Replay:
        env = settings.ENV
        limits = Limits(queue=env.sollol_max_queue, wait=env.sollol_max_wait_s, spared=env.sollol_batch_spares)
        names = {spec.id: spec.name for spec in fleet.snapshot.nodes}
        told = []
        with Progress(self.stderr, len(variants) * options["seeds"]) as progress:
            for variant in variants:
                runs = []
                for seed in range(1, options["seeds"] + 1):
                    progress.begin(variant.label)
                    runs.append(tried(variant, happened, wanted, seed, limits, progress.update))
                told.append(Told(variant, runs))
        before = really(happened, wanted, names)
        return replay_text.Replay(
            happened,
            subject(options),
            grounds(fleet.snapshot, fleet.learned),
            before,
            told,
            fidelity(before, told[0]),
        )

    def past(self, fleet: Fleet, span: tuple[datetime, datetime], wanted: Filter, options: dict[str, Any]) -> Past:
        """The requests of the span. Raises ValueError where there are none to tell of."""
        since, until = span
        rows = recorded(since, until, options["limit"])
        if not rows:
            raise ValueError(f"no requests were recorded from {told_moment(since)} to {told_moment(until)}")
        if len(rows) == options["limit"]:
            self.stderr.write(f"only the newest {len(rows)} requests are replayed; --limit changes that", str)
        token_s = {
            (machine.spec.id, key): model.output_s
            for machine in machines_of(fleet.snapshot, fleet.learned)
            for key, model in machine.models.items()
        }
        seconds = (rows[-1].started_at - rows[0].started_at).total_seconds()
        away = outages(transitions(since, until), rows[0].started_at, seconds)
        happened = past(rows, offered(fleet), token_s, away)
        if options["only"]:
            happened = only(happened, wanted)
        if not any(one.served for one in happened.happened if wanted(one)):
            reasons = ", ".join(f"{count} {reason}" for reason, count in happened.left_out.items())
            raise ValueError(
                f"none of the {len(rows)} requests recorded in that time{subject(options)} can be replayed"
                f"{f' (left out: {reasons})' if reasons else ''}"
            )
        return happened


def write_plot(path: Path, replay: replay_text.Replay) -> None:
    """Raises CommandError where the file cannot be written."""
    curves = [
        ("what happened", replay.recorded.curve),
        *((one.variant.label, one.runs[0].curve) for one in replay.told),
    ]
    try:
        path.write_text(svg("Requests that had ended, by seconds since their arrival", curves))
    except OSError as error:
        raise CommandError(f"{path} cannot be written: {error.strerror}") from None
