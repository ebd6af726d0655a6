"""The progress streams of pull, push and create."""

from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from aiohttp import web

from simulator.http_answer import Delivery, EndedEarly, body_answer
from simulator.runner import RunnerDied
from simulator.wire import JSON_PLAIN, NDJSON, error_json, go_json, typed

if TYPE_CHECKING:
    from simulator.node import SimulatedNode

Body = Mapping[str, Any]
Report = Callable[..., Awaitable[None]]
PROGRESS_SECONDS = 0.06


class WorkFailed(Exception):  # noqa: N818 - named after what happened
    """A transfer ends with this text: an error line when something was streamed before, a status when not."""


class Cut(Exception):  # noqa: N818 - named after what happened
    """The connection is to be closed in the middle of the transfer."""


class Progress:
    """The status objects of a pull, push or create, streamed or, with `stream` false, left out."""

    def __init__(self, node: "SimulatedNode", request: web.BaseRequest, body: Body) -> None:
        self._streams = typed(body, "stream", bool, default=True)
        self._delivery = Delivery(request, node.faults, NDJSON)

    async def report(self, status: str, **fields: Any) -> None:
        if self._streams:
            await self._delivery.send([go_json({"status": status, **fields}) + b"\n"])

    async def run(self, work: Awaitable[None]) -> web.StreamResponse:
        """Do the work and end the answer as it went."""
        try:
            await work
            await self.report("success")
        except (WorkFailed, RunnerDied) as failure:
            if not self._streams or not self._delivery.sent:
                body = error_json(str(failure))
                return body_answer(body, JSON_PLAIN, HTTPStatus.INTERNAL_SERVER_ERROR)
            await self._delivery.stream.send([error_json(str(failure)) + b"\n"])
        except Cut:
            self._delivery.cut()
        except EndedEarly:
            pass
        if self._streams:
            return await self._delivery.finish()
        return body_answer(b'{"status":"success"}', JSON_PLAIN)
