"""Starts everything on this machine: gateway, worker, and simulated nodes if no real ones are named."""

import contextlib
import fcntl
import io
import os
import signal
import subprocess
import sys
import time
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import psycopg
from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import connection, connections

from fleet.management import banner, demo
from fleet.management.console import Attention, Exits, last_line
from fleet.management.ports import PortTaken, check
from fleet.management.server import LAST_WORDS_S
from fleet.management.supervision import Program, supervised
from fleet.models import Node
from fleet.services.nodes import seed

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
#: Seconds until the gateway must answer, and then until it and the nodes know of each other.
ANSWER_S = 60.0
SETTLE_S = 15.0
LOOK_S = 0.2
#: Seconds beyond SOLLOL_SHUTDOWN_S in which the gateway writes its last records.
LAST_WRITES_S = 10

HELP = """
Start the gateway, the worker and - if no node was ever added and SOLLOL_NODES is empty - three simulated nodes,
and stay in the foreground until Ctrl-C or SIGTERM, which stop all of them. Exit code 0 after such a stop.

On the way: brings the database up to date, creates the superuser `admin` if there is none (the password is shown
once), and adds the nodes of SOLLOL_NODES. A node that exists already is never overwritten. A process that dies is
started again. Warnings and errors appear here; everything is in the log files that the start names.

Settings come from the environment or .env; see docs/settings.md. The most used here:
  SOLLOL_PORT=8000           the gateway's port
  SOLLOL_NODES=a:11434,...   real Ollama servers; no simulated nodes are started then
  SOLLOL_DATA_DIR=var        database, secret key and logs
"""


class Command(BaseCommand):
    help = HELP

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> Any:
        parser = super().create_parser(prog_name, subcommand, **kwargs)
        parser.formatter_class = RawDescriptionHelpFormatter
        return parser

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Everything is a setting; there are no arguments."""

    def handle(self, *args: Any, **options: Any) -> None:
        on_signals(lambda *_: sys.exit(0))
        env, folder = settings.ENV, settings.DATA_DIR
        try:
            check(env.sollol_host, env.sollol_port)
        except PortTaken as error:
            raise CommandError(str(error)) from None
        with only_one(folder / "up.lock"):
            migrate()
            admin = administrator()
            simulated = self.nodes()
            connections.close_all()
            self.serve(folder, programs(simulated), admin)

    def nodes(self) -> list[tuple[demo.Simulated, int]]:
        """Bring the nodes into the database; returns the simulated ones to start."""
        named = settings.ENV.sollol_nodes.strip()
        try:
            if not named:
                simulated, lines = demo.wake()
            else:
                seeded = seed(named)
                simulated, lines = [], demo.rest()
                lines += [
                    f"warning: node {one.node.name} ({one.node.url}) does not answer: {one.error}; start goes on"
                    for one in banner.looks([node for node in seeded.created + seeded.kept if node.enabled])
                    if one.error
                ]
        except ValueError as error:
            raise CommandError(f"SOLLOL_NODES: {error}") from None
        except PortTaken as error:
            raise CommandError(str(error)) from None
        for line in lines:
            self.tell(line)
        return simulated

    def serve(self, folder: Path, wanted: Sequence[Program], admin: str) -> None:
        """Run the programs until a signal comes; tell the banner once the gateway answers."""
        stop: list[int] = []
        on_signals(lambda number, _: stop.append(number))
        logs = folder / "logs"
        watched = (Exits(logs), Attention("gateway", logs), Attention("worker", logs))
        with supervised(folder, wanted) as supervisor:
            for phase in (self.until_ready(admin, logs), iter(lambda: True, None)):
                for _ in phase:
                    for line in (line for source in watched for line in source.lines()):
                        self.tell(line)
                    fail_if_over(supervisor, watched[0], logs)
                    if stop:
                        break
                    time.sleep(LOOK_S)
                if stop:
                    break
            self.tell(f"\nStopping; running streams get up to {settings.ENV.sollol_shutdown_s} s to finish ...")
        self.tell("Stopped.")

    def until_ready(self, admin: str, logs: Path) -> Iterator[None]:
        """One step per look; ends after the banner. Raises CommandError if the gateway never answers."""
        env = settings.ENV
        url = banner.base_url(env.sollol_host, env.sollol_port)
        deadline = time.monotonic() + ANSWER_S
        while not answers(url):
            if time.monotonic() > deadline:
                raise CommandError(f"the gateway has not answered within {ANSWER_S:.0f} s; see {logs / 'gateway.log'}")
            yield
        deadline = time.monotonic() + SETTLE_S
        nodes = list(Node.objects.order_by("name"))
        connections.close_all()
        seen = banner.looks(nodes)
        while not settled(url, seen) and time.monotonic() < deadline:
            yield
            seen = banner.looks(nodes)
        needs_key = env.sollol_anonymous == "deny"
        self.tell(banner.text(url, admin, str(logs), seen, needs_key=needs_key))

    def tell(self, line: str) -> None:
        self.stdout.write(line)
        self.stdout.flush()


def on_signals(handler: Any) -> None:
    for number in SIGNALS:
        signal.signal(number, handler)


@contextlib.contextmanager
def only_one(path: Path) -> Iterator[None]:
    """Hold the data folder: two starts would run two workers, and move each other's simulated nodes."""
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise CommandError(
                f"process {file.read().strip() or '?'} runs already with the data folder {path.parent}; "
                "stop it, or choose another folder: SOLLOL_DATA_DIR=..."
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def migrate() -> None:
    """Bring the database up to date. Raises CommandError, on one line, with the cause and where the database is."""
    try:
        ask_postgresql()
        call_command("migrate", interactive=False, verbosity=0)
    except Exception as error:  # noqa: BLE001 (whatever a driver or a migration raises, one line says it)
        cause = one_line(error) or type(error).__name__
        raise CommandError(f"the database could not be brought up to date: {cause} ({where()})") from None


def ask_postgresql() -> None:
    """Connect without the pool, which would wait 10 s and then only say that it has waited in vain."""
    if connection.vendor == "postgresql":
        psycopg.connect(settings.ENV.database_url, connect_timeout=5).close()


def one_line(error: Exception) -> str:
    return "; ".join(line.strip() for line in str(error).splitlines() if line.strip())


def where() -> str:
    database = connection.settings_dict
    if connection.vendor == "sqlite":
        return str(database["NAME"])
    return f"{connection.vendor} on {database.get('HOST') or 'a local socket'}, database {database['NAME']}"


def administrator() -> str:
    """What to tell about the administrator; creates one if there is none."""
    password = io.StringIO()
    try:
        call_command("ensure_admin", stdout=password, stderr=io.StringIO())
    except CommandError as error:
        return str(error)
    if made := password.getvalue().strip():
        return f"user admin, password {made} (shown only now)"
    superusers = get_user_model().objects.filter(is_superuser=True, is_active=True).order_by("pk")
    name = superusers.values_list("username", flat=True).first()
    return f"user {name}, password unchanged; to reset it: .venv/bin/python manage.py changepassword {name}"


def programs(simulated: Sequence[tuple[demo.Simulated, int]]) -> list[Program]:
    """What runs: nodes start first and stop last, so that streams can finish."""
    env = settings.ENV
    gateway_s = int(env.sollol_drain_s) + env.sollol_shutdown_s + LAST_WORDS_S + LAST_WRITES_S
    return [
        *(
            Program(
                one.name, ("-m", "simulator", "--port", str(port), "--profile", one.profile, "--name", one.name), 10, 5
            )
            for one, port in simulated
        ),
        Program("worker", ("manage.py", "qcluster"), 20, 15),
        Program("gateway", ("manage.py", "gateway"), 30, gateway_s),
    ]


def fail_if_over(supervisor: subprocess.Popen[bytes], exits: Exits, logs: Path) -> None:
    if supervisor.poll() is not None:
        raise CommandError(
            f"supervisord ended: {last_line(logs / 'supervisord.err') or last_line(logs / 'supervisord.log')}"
        )
    if "gateway" in exits.gave_up:
        raise CommandError(
            f"the gateway does not start: {last_line(logs / 'gateway.log')} (whole log: {logs / 'gateway.log'})"
        )


def answers(url: str) -> bool:
    try:
        httpx.get(url, timeout=2.0, trust_env=False)
    except httpx.HTTPError:
        return False
    return True


def settled(url: str, seen: Sequence[banner.Look]) -> bool:
    """Whether simulated nodes are up and the gateway knows the model of the line to try."""
    if any(one.error for one in seen if one.node.enabled and demo.is_simulated(one.node)):
        return False
    model = banner.first_model(seen)
    if not model:
        return True
    try:
        answer = httpx.get(f"{url}/api/tags", timeout=2.0, trust_env=False)
        return answer.status_code in (401, 403) or model in [row["name"] for row in answer.json()["models"]]
    except (httpx.HTTPError, ValueError, KeyError, TypeError):
        return False
