"""/ws/chat and /ws/generate: Ollama's own requests and objects over a WebSocket, several at a time."""

import asyncio
import contextlib
import itertools
import json
import logging
from collections.abc import Mapping
from typing import Any

from channels.generic.websocket import AsyncWebsocketConsumer

from fleet import live
from fleet.consumers import NO_LAYER
from fleet.consumers.call import Call, Fault
from routing.gateway.journey import chosen_id

log = logging.getLogger(__name__)

#: Close codes: the key is wrong or missing, this process runs no gateway, the gateway failed.
BAD_KEY, NO_GATEWAY, INTERNAL_ERROR = 4401, 1013, 1011
#: The subprotocol that is chosen; a key is offered beside it, since browsers can send it no other way.
PROTOCOL, KEY_MARK = "sollol", "sollol_"
#: Messages above so many characters are read off the event loop.
LARGE = 1 << 20
#: Requests of one socket at a time.
MOST = 64
#: Seconds between two looks at a waiting request, and before the first: most have begun by then.
LOOK_S = 0.5
#: Seconds that the requests of a closed connection get to end by themselves.
LEAVING_S = 2.0
UNAUTHORIZED = 401

Message = dict[str, Any]


class InferenceConsumer(AsyncWebsocketConsumer):  # type: ignore[misc]  # channels is untyped
    """Each message is a request as its route takes it; each object of the answer is one message back.

    A request with a member `id` (text or number) has that `id` in each of its messages, and can be cancelled by
    `{"type": "cancel", "id": ...}`. While it waits, `{"type": "queued", ...}` tells its place. An error is
    `{"error": text, "status": HTTP status}`. docs/websockets.md tells all.
    """

    channel_layer_alias = NO_LAYER
    route = "/api/chat"

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.key = ""
        self.calls: dict[str | int, tuple[Call, asyncio.Task[None]]] = {}
        self.numbers = itertools.count(1)
        self.closed = False

    async def connect(self) -> None:
        gateway = live.gateway()
        if gateway is not None and not gateway.admits(dict(self.scope["headers"])):
            await self.close()  # before accepting it: the handshake is answered 403
            return
        offered = self.scope["subprotocols"]
        self.key = next((protocol for protocol in offered if protocol.startswith(KEY_MARK)), "")
        await self.accept(PROTOCOL if PROTOCOL in offered else None)
        if gateway is None:
            await self.close(code=NO_GATEWAY, reason="this process runs no gateway")
        elif self.key and not gateway.knows_key(self.key):
            await self.close(code=BAD_KEY, reason="this key is not known, expired or revoked")

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        text = text_data if text_data is not None else (bytes_data or b"").decode("utf-8", "replace")
        message = read(text) if len(text) <= LARGE else await asyncio.to_thread(read, text)
        if not isinstance(message, dict):
            await self.tell({"error": "a message is a JSON object", "status": 400})
            return
        match message.get("type"):
            case "auth":
                await self.authenticate(message.get("key"))
            case "cancel":
                await self.cancel(message.get("id"))
            case _:
                await self.begin(message, text)

    async def authenticate(self, key: object) -> None:
        """Take the key for all requests that follow."""
        gateway = live.gateway()
        if not isinstance(key, str) or gateway is None or not gateway.knows_key(key):
            await self.close(code=BAD_KEY, reason="this key is not known, expired or revoked")
            return
        self.key = key
        await self.tell({"type": "authenticated"})

    async def cancel(self, name: object) -> None:
        call = self.calls.get(name) if isinstance(name, str | int) else None
        if call is None:
            await self.tell({"error": "no request with this id runs", "status": 404, "id": name})
        else:
            call[0].leave()

    async def begin(self, message: Message, text: str) -> None:
        """Start a request; it runs beside the others."""
        given = message.get("id")
        name = given if isinstance(given, str | int) and not isinstance(given, bool) else f"#{next(self.numbers)}"
        own = {} if given is None else {"id": given}
        if len(self.calls) >= MOST or name in self.calls:
            why = f"{MOST} requests run already" if len(self.calls) >= MOST else "a request with this id runs already"
            await self.tell({"error": f"{why} on this socket", "status": 429, **own})
            return
        wanted = message.get("request_id")
        if wanted is not None and (fault := self.unfit(wanted)):
            await self.tell({"error": fault, "status": 400, **own})
            return
        call = Call(self.route, self.scope, self.key, text.encode(), wanted)
        self.calls[name] = (call, asyncio.create_task(self.serve(name, own, call), name=f"{self.route} {name}"))

    def unfit(self, wanted: object) -> str:
        """Why a request cannot have this id; empty if it can."""
        if not isinstance(wanted, str) or chosen_id(wanted.encode()) is None:
            return "request_id is 1 to 64 letters, digits and ._:-"
        gateway = live.gateway()
        taken = gateway is not None and gateway.told(wanted) is not None
        return "a request with this request_id runs already" if taken else ""

    async def serve(self, name: str | int, own: Message, call: Call) -> None:
        """See a request through; whatever goes wrong with it, the socket and its other requests go on."""
        waiting = asyncio.create_task(self.tell_place(call, own))

        async def take(line: bytes) -> None:
            waiting.cancel()
            await self.send(text_data=marked(line, own))

        try:
            await call.run(live.gateway(), take)
            if call.left and not self.closed:
                await self.tell({"type": "cancelled", **own})
        except Fault as fault:
            await self.tell({"error": fault.text, "status": fault.status, **own})
            if fault.status == UNAUTHORIZED:
                await self.close(code=BAD_KEY, reason="a key is needed")
        except OSError:
            return  # the client has left
        except Exception:
            log.exception("%s failed over a WebSocket", self.route)
            await self.close(code=INTERNAL_ERROR)
        finally:
            waiting.cancel()
            self.calls.pop(name, None)

    async def tell_place(self, call: Call, own: Message) -> None:
        """While a request waits, tell its place and when it will probably start, each time that changes."""
        before: Mapping[str, Any] | None = None
        with contextlib.suppress(OSError):
            while True:
                await asyncio.sleep(LOOK_S)
                gateway = live.gateway()
                told = gateway.told(call.request_id) if gateway else None
                if told is None or told["state"] != "waiting":
                    continue
                place = {name: told[name] for name in ("position", "predicted_start_s", "predicted_finish_s")}
                if place != before:
                    before = place
                    await self.tell({"type": "queued", "request_id": call.request_id, **place, **own})

    async def tell(self, message: Message) -> None:
        await self.send(text_data=json.dumps(message, separators=(",", ":")))

    async def disconnect(self, code: int) -> None:
        self.closed = True
        running = list(self.calls.values())
        for call, _ in running:
            call.leave()
        tasks = [task for _, task in running]
        if tasks:
            # Each ends as a request whose client has left; what does not within a moment is ended here.
            _, late = await asyncio.wait(tasks, timeout=LEAVING_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


class ChatConsumer(InferenceConsumer):
    """/ws/chat."""


class GenerateConsumer(InferenceConsumer):
    """/ws/generate."""

    route = "/api/generate"


def read(text: str) -> Any:
    """The message's JSON value, None where it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def marked(line: bytes, own: Message) -> str:
    """An object of the answer with the client's own id at its end."""
    text = line.decode("utf-8", "replace").rstrip()
    if not own or not text.endswith("}"):
        return text
    return f"{text[:-1]},{json.dumps(own, separators=(',', ':'))[1:]}"
