"""Serves the gateway: the data plane, admin, the REST API and the WebSockets, in one process."""

import logging
import resource
import signal
import sys
from argparse import ArgumentParser
from typing import Any

import uvicorn
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from fleet.management.ports import PortTaken, bound
from fleet.management.protocol import PlainHttp
from fleet.management.server import Server

CUT_ON_PURPOSE = "ASGI callable returned without completing response."
FILES = 65_536
#: Largest WebSocket message: it is held in memory whole, before anybody knows whose it is.
LARGEST_MESSAGE_MB = 64


class Command(BaseCommand):
    help = (
        "Serve the gateway with uvicorn: the Ollama and OpenAI routes, admin, dashboard, REST API and WebSockets. "
        "SIGTERM and Ctrl-C let running streams finish for SOLLOL_SHUTDOWN_S seconds."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        env = settings.ENV
        parser.add_argument("--host", default=env.sollol_host, help=f"Address to listen on; now {env.sollol_host}.")
        parser.add_argument(
            "--port", type=int, default=env.sollol_port, help=f"Port to listen on; now {env.sollol_port}."
        )

    def handle(self, *args: Any, **options: Any) -> None:
        host, port, env = options["host"], options["port"], settings.ENV
        try:
            sockets = bound(host, port)
        except PortTaken as error:
            raise CommandError(str(error)) from None
        allow_many_files()
        settings.STATIC_ROOT.mkdir(exist_ok=True)  # else WhiteNoise warns; the finders serve what is not collected
        # uvicorn raises the signal that ended it once more after its shutdown; this turns it into exit code 0.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        logging.getLogger("uvicorn.error").addFilter(told_nothing_new)
        logging.getLogger("sollol.gateway").info("listening on %s:%d", host, port)
        try:
            Server(configuration(), env.sollol_drain_s, env.sollol_shutdown_s).run(sockets)
        except KeyboardInterrupt:
            sys.exit(0)


def configuration() -> uvicorn.Config:
    """How uvicorn serves the gateway; forwarding headers are judged by the gateway itself, never by uvicorn."""
    return uvicorn.Config(
        "sollol_site.asgi:application",
        loop="uvloop",
        http=PlainHttp,
        ws="websockets-sansio",
        # Objects of a stream are small: compressing each would cost more than the network saves.
        ws_per_message_deflate=False,
        ws_max_size=min(settings.ENV.sollol_max_body_mb, LARGEST_MESSAGE_MB) << 20,
        lifespan="on",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        log_config=None,
        timeout_keep_alive=75,
        limit_concurrency=settings.ENV.sollol_max_connections,
    )


def told_nothing_new(record: logging.LogRecord) -> bool:
    """Drop uvicorn's complaint about an unfinished answer: that is how the gateway ends a broken stream."""
    return record.msg != CUT_ON_PURPOSE


def allow_many_files() -> None:
    """Each stream holds two sockets; the usual soft limit of 1024 files is too small for a fleet."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if hard == resource.RLIM_INFINITY else min(hard, FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
