"""What failures and error answers tell about the node, as apart from the request."""

from routing.core.dispatcher import Verdict
from routing.upstream.client import NodeFailed

NOT_FOUND, TOO_MANY, SERVER_ERROR, BUSY_STATUS = 404, 429, 500, 503
#: What Ollama says, in the envelope of any API, with a status of 5xx although only the request is at fault.
OWN_FAULTS = (b':"option \\"', b':"invalid format', b"This server does not support embeddings")
#: What Ollama says of a model, or of options, that need more memory than the node has; another may have more.
TOO_LARGE = b"requires more system memory"
#: What an attempt told about its node where the slot that it held gave something to the client, or would have.
GIVEN = {Verdict.SUCCESS, Verdict.NEUTRAL, Verdict.DOUBTFUL}


def of_failure(failure: NodeFailed) -> Verdict:
    """What a lost connection, or one that was never made, tells."""
    if failure.local:
        return Verdict.NEUTRAL
    if failure.said:
        return Verdict.FAILURE
    if failure.certain:
        return Verdict.UNREACHABLE
    return Verdict.BROKEN if failure.refused else Verdict.CUT


def elsewhere(status: int, data: bytes) -> bool:
    """Whether another node may do better than the one that answered this error."""
    own = any(map(data[:200].__contains__, OWN_FAULTS))
    return (status in {NOT_FOUND, TOO_MANY} or status >= SERVER_ERROR) and not own


def of_error(status: int, data: bytes, *, remote: bool) -> Verdict:
    """What an answer of this status, 400 or more, tells. `remote`: ollama.com said it, through the node."""
    if not elsewhere(status, data):
        return Verdict.SUCCESS if status < SERVER_ERROR else Verdict.NEUTRAL
    # What ollama.com says through a node says nothing of the node, nor does a model that is too large for it.
    if status == NOT_FOUND or remote or TOO_LARGE in data[:300]:
        return Verdict.NEUTRAL
    return Verdict.BROKEN if status in {TOO_MANY, BUSY_STATUS} else Verdict.FAILURE
