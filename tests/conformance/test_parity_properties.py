"""Whatever a client asks on an inference route, sensible or not: the gateway's answer is the node's, byte for byte."""

import hashlib
import json
import logging
import os
from urllib.parse import quote

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from routing.core.requests import Route
from tests.conformance.strategies import ROUTES, bodies, compressed, forms, odd_forms
from tests.conformance.twice import asked_twice, told

ACCOUNTS = st.sampled_from(["ada", ""])
FORM_ROUTE = "/v1/audio/transcriptions"
STREAMED = ("application/x-ndjson", "text/event-stream")
#: Examples for each route; more of them, and others each time, are a matter of the environment.
EXAMPLES = int(os.environ.get("SOLLOL_TEST_EXAMPLES", "40"))
SEARCH = settings(
    max_examples=EXAMPLES,
    derandomize="SOLLOL_TEST_EXAMPLES" not in os.environ,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@pytest.fixture(scope="module")
def twice():
    """The node and the gateway in front of it, for all examples of this file."""
    with asked_twice() as running:
        yield running


def equal(twice, path, body, headers=(), account="ada"):
    """Ask both ways and compare; returns the gateway's answer."""
    twice.node.account = account
    direct, through = twice.ask(path, body, dict(headers))
    assert told(through) == told(direct)
    return through


def placed(twice, answer):
    """What ran had a slot, and was relayed as a stream where the node streamed; an unload needs neither."""
    if answer.status_code == 200 and b'"done_reason":"unload"' not in answer.content:
        assert answer.headers["x-sollol-node"] == "ant"
        assert twice.last.stream or not answer.headers["content-type"].startswith(STREAMED)


@pytest.mark.parametrize("path", ROUTES)
@SEARCH
@given(data=st.data(), account=ACCOUNTS)
def test_the_answer_is_the_nodes(twice, path, data, account):
    """Status, headers and every byte but times, durations and ids."""
    placed(twice, equal(twice, path, data.draw(bodies(path)), account=account))


@pytest.mark.parametrize("path", [path for path in ROUTES if path.startswith("/v1/")])
@SEARCH
@given(data=st.data())
def test_the_answer_to_a_compressed_body_is_the_nodes(twice, path, data):
    """Whether zstd in one frame or several, cut, or no zstd at all."""
    placed(twice, equal(twice, path, data.draw(compressed(path)), {"content-encoding": "zstd"}))


@SEARCH
@given(form=forms(), account=ACCOUNTS)
def test_the_answer_to_a_form_is_the_nodes(twice, form, account):
    """Whatever its fields say, and in whatever order they come."""
    body, kind = form
    placed(twice, equal(twice, FORM_ROUTE, body, {"content-type": kind}, account))


@SEARCH
@given(form=odd_forms(), account=ACCOUNTS)
def test_the_answer_to_an_odd_form_is_the_nodes(twice, form, account):
    """A form that is read otherwise here than there is passed on as it is, without a slot, and so is the answer."""
    body, kind = form
    equal(twice, FORM_ROUTE, body, {"content-type": kind}, account)


BLOB = "/api/blobs/sha256:" + hashlib.sha256(b"").hexdigest()
OURS = b"the gateway failed"
KNOWN = [
    *(route.value for route in Route),
    *("/api/tags", "/api/ps", "/api/show", "/api/copy", "/api/delete", "/api/push", "/api/create", "/api/status"),
    *("/api/me", "/api/signout", "/api/user/keys/x", "/api/requests/x", "/v1/models", "/v1/models/x", BLOB, "/"),
    *("/api/blobs/x", "/api/nothing", "/v1/nothing", "/api/experimental/web_search", "//api//chat", "/api/chat/"),
]
BYTES = st.one_of(
    st.binary(max_size=40),
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=4),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(st.sampled_from(["model", "name", "source", "files", "from", "messages", "x"]), inner)
        ),
    ).map(lambda value: json.dumps(value).encode()),
)


@settings(SEARCH, suppress_health_check=list(HealthCheck))
@given(
    method=st.sampled_from(["GET", "POST", "PUT", "DELETE", "HEAD", "PATCH", "OPTIONS"]),
    path=st.one_of(
        st.sampled_from(KNOWN), st.text(max_size=8).map(lambda text: "/api/" + quote(text, errors="replace"))
    ),
    body=BYTES,
    kind=st.sampled_from(["application/json", "multipart/form-data; boundary=x", ""]),
)
def test_anything_is_answered(twice, caplog, method, path, body, kind):
    """Any bytes on any path with any method: never a failure of the gateway's own."""
    answer = twice.runner.run(twice.through.request(method, path, content=body, headers={"content-type": kind}))
    assert isinstance(answer, httpx.Response)
    assert OURS not in answer.content
    assert not [
        record for record in caplog.records if record.name.startswith("sollol") and record.levelno >= logging.ERROR
    ]
