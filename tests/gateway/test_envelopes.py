"""A refusal in the form of the API that the client speaks."""

import json

import pytest

from routing.core.errors import QuotaExceeded
from routing.core.requests import Api
from routing.gateway.envelopes import refusal


@pytest.mark.parametrize(
    ("api", "told"),
    [
        (Api.OLLAMA, {"error": "no room"}),
        (Api.OPENAI, {"error": {"message": "no room", "type": "api_error", "param": None, "code": None}}),
        (Api.ANTHROPIC, {"type": "error", "error": {"type": "rate_limit_error", "message": "no room"}}),
    ],
)
def test_a_quota_without_room_is_a_429_with_retry_after(api, told):
    """In seconds, in the envelope of each API."""
    status, headers, body = refusal(api, QuotaExceeded("no room", 42))
    answer = json.loads(body)
    answer.pop("request_id", None)
    assert (status, dict(headers)[b"retry-after"], answer) == (429, b"42", told)
