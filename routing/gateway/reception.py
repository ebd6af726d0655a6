"""Where an inference request comes in: who calls, what is asked, and whether the queue or a node is to answer it."""

import time
from contextlib import aclosing
from pathlib import Path

from routing.core.errors import NoNode
from routing.core.requests import EMBEDDING_ROUTES, Profile, Route
from routing.core.tickets import Ticket
from routing.gateway import bodies
from routing.gateway.access import Access, Caller
from routing.gateway.embedding.asked import Wanted
from routing.gateway.exchange import Exchange
from routing.gateway.inference import Inference
from routing.gateway.intake import take_form, take_json
from routing.gateway.journey import Journey, chosen_id, request_id
from routing.gateway.library import Library
from routing.gateway.relay import Relayed
from routing.gateway.terms import Desk
from routing.gateway.upload import Upload
from routing.upstream.client import Body


class Reception:
    """Makes tickets of requests. `max_body` in bytes; forms are kept in the folder `spool` while they wait."""

    def __init__(
        self, access: Access, desk: Desk, inference: Inference, library: Library, max_body: int, spool: Path | None
    ) -> None:
        self.access, self.desk, self.inference, self.library = access, desk, inference, library
        self.max_body, self.spool = max_body, spool
        self.passing, self.targets = library.passing, library.targets
        self.dispatcher, self.clock = inference.admission.dispatcher, inference.clock

    async def serve(self, exchange: Exchange, route: Route) -> None:
        """Answer one request on an inference route. Raises a `Refusal` where the gateway itself refuses."""
        arrived, arrived_wall = self.clock(), time.time()
        caller = self.access.caller_for(exchange.scope, exchange.headers)
        caller.require("inference")
        limit = self.max_body
        if route is Route.V1_TRANSCRIPTIONS:
            async with aclosing(Upload(self.spool)) as upload:
                profile = await take_form(exchange, route, limit, upload)
                await self._place(exchange, caller, profile, upload, (arrived, arrived_wall))
        else:
            embeds = route in EMBEDDING_ROUTES and caller.team is not None and caller.team.embeds
            body, profile, wanted = await take_json(exchange, route, limit, embeds=embeds)
            await self._place(exchange, caller, profile, body, (arrived, arrived_wall), wanted)

    async def _place(
        self,
        exchange: Exchange,
        caller: Caller,
        profile: Profile | None,
        body: bytes | Body,
        arrived: tuple[float, float],
        wanted: Wanted | None = None,
    ) -> None:
        """Make a ticket of a request that some node can serve; any other is a node's to refuse."""
        if profile is None or not profile.key:
            await self.passing.on(exchange, body)
            return
        terms = self.desk.prepare(profile, exchange.headers, caller, arrived[0])
        dispatcher = self.dispatcher
        if not dispatcher.offered(profile):
            await self.targets.refresh()
            if not dispatcher.offered(profile):
                if dispatcher.held(profile):
                    raise NoNode("every node that has the model is being drained")
                if profile.labels:
                    labels = ", ".join(f"{name}={value}" for name, value in profile.labels)
                    raise NoNode(f"no node with {labels} has the model, and a rule lets it run on no other")
                await self.passing.on(exchange, body, self.targets.account[:1] if profile.remote else None)
                return
        if profile.unloads and not profile.remote and isinstance(body, bytes):
            await self.library.unload(exchange, profile, body)
            return
        if terms.pinned is not None and isinstance(body, bytes):
            body = await bodies.with_context(body, terms.pinned)
            if wanted is not None:
                wanted.pin(terms.pinned)
        name = chosen_id(exchange.headers.get(b"x-request-id"))
        if name is None or self.inference.knows(name):
            name = request_id(arrived[1])
        journey = Journey(Ticket(name, profile, arrived[0]), caller, arrived[1], Relayed(profile.route.api), terms)
        journey.wanted = wanted
        await self.inference.attend(exchange, journey, body)
