"""Refusals and failures, named after what happened; each API maps them to its own envelope in one place."""


class Refusal(Exception):  # noqa: N818 (a refusal is an answer, named after what happened)
    """A request that the gateway itself answers with an error.

    `status` is the HTTP status, `retry_after` in seconds.
    """

    status = 503
    retry_after: int | None = None

    def __init__(self, message: str, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        if retry_after is not None:
            self.retry_after = max(1, retry_after)


class BadRequest(Refusal):
    """Something that only the gateway reads is malformed (a priority header, say)."""

    status = 400


class NotAuthenticated(Refusal):
    """No key where one is needed, or a key of ours that is wrong, expired or revoked."""

    status = 401


class NotAllowed(Refusal):
    """A good key without the scope that the route needs."""

    status = 403


class Loop(Refusal):
    """A request of this gateway has come back to it: its own address is among its nodes."""

    status = 508


class Stopping(Refusal):
    """The gateway stops, and the request was not done in the time that is left for that."""

    status = 503
    retry_after = 1


class BodyTooSlow(Refusal):
    """The request's body comes so slowly that it would hold a connection for hours."""

    status = 408


class BodyTooLarge(Refusal):
    """The request body is above the configured limit."""

    status = 413


class QueueFull(Refusal):
    """As many requests wait as may; nothing was queued."""

    status = 429
    retry_after = 1


class QuotaExceeded(Refusal):
    """A hard quota of the team has no room; nothing was queued. `retry_after` is when it will have some again."""

    status = 429


class TooLate(Refusal):
    """The answer would come after the request's deadline, or the deadline has passed while it waited."""


class WaitExpired(Refusal):
    """No slot came free within the longest wait."""

    retry_after = 5


class NoNode(Refusal):
    """No node that could serve the request is up."""

    retry_after = 2


class ClientGone(Exception):  # noqa: N818
    """The client closed its connection before its answer was complete."""
