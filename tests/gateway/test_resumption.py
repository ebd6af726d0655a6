"""The parts of a resumption: what the next node is asked, and what the client sees of its answer."""

import asyncio
import json

import pytest

from routing.core.learner import Metrics
from routing.core.requests import Api, Route
from routing.gateway.exchange import Exchange
from routing.gateway.relay import Relayed, relay_stream
from routing.gateway.resumption import NotContinued, Resumption
from tests.gateway.test_wire import CutAnswer

HI = [{"role": "user", "content": "Hi"}]
HEAD = '"id":"chatcmpl-1","object":"chat.completion.chunk","created":5,"model":"m","system_fingerprint":"fp_ollama"'
THEIRS = HEAD.replace("chatcmpl-1", "chatcmpl-7").replace('"created":5', '"created":9')


def native(text="", **more) -> bytes:
    message = {"role": "assistant", "content": text} | more
    return json.dumps({"model": "m", "created_at": "t", "message": message, "done": False}).encode() + b"\n"


def v1(head: str, delta: dict, finish=None, **more) -> bytes:
    choice = json.dumps({"index": 0, "delta": delta, "finish_reason": finish}, separators=(",", ":"))
    tail = "".join(f',"{name}":{json.dumps(value)}' for name, value in more.items())
    return f'data: {{{head},"choices":[{choice}]{tail}}}\n\n'.encode()


def chat(*objects, route=Route.CHAT, **asked) -> Resumption:
    """A stream of which these objects were sent, the first attempt at 100 s."""
    resumption = Resumption(route, {"model": "m", "messages": HI} | asked, "w", began=100.0, estimate=9)
    resumption.take(objects)
    return resumption


def v1_chat(*objects, **asked) -> Resumption:
    return chat(*objects, route=Route.V1_CHAT, **asked)


def event(data: bytes) -> dict:
    assert (data.startswith(b"data: "), data.endswith(b"\n\n")) == (True, True)
    return json.loads(data.removeprefix(b"data: "))


def test_the_text_so_far_is_the_last_message():
    """Nothing else of the request changes, whatever it is."""
    resumption = chat(native("The "), native(), native("sky"), options={"top_k": 3}, custom=[1])
    assert (resumption.text, resumption.tokens) == ("The sky", 2)
    messages = [*HI, {"role": "assistant", "content": "The sky"}]
    expected = {"model": "m", "messages": messages, "options": {"top_k": 3}, "custom": [1]}
    assert json.loads(resumption.body(thinks=False)) == expected
    assert json.loads(resumption.body(thinks=True)) == expected | {"think": False}


@pytest.mark.parametrize(
    ("limit", "left", "complete"),
    [
        (5, 3, False),
        (2, 0, True),
        (1, -1, True),
        (-1, -1, False),
        (-2, -2, False),
        (5.0, 3, False),
        (None, None, False),
    ],
)
def test_the_limit_is_reduced_by_what_was_sent(limit, left, complete):
    """A limit below zero is none, and stays."""
    resumption = chat(native("a"), native("b"), options={"num_predict": limit})
    assert resumption.complete is complete
    if not complete:
        assert json.loads(resumption.body(thinks=False))["options"]["num_predict"] == left


@pytest.mark.parametrize("role", ["assistant", "Assistant"])
def test_a_message_that_the_client_has_begun_is_made_longer(role):
    """However it writes the role."""
    begun = [*HI, {"role": role, "content": "The ", "name": "x"}]
    body = json.loads(chat(native("sky"), messages=begun).body(thinks=False))
    assert body["messages"] == [*HI, {"role": role, "content": "The sky", "name": "x"}]


def test_v1_has_its_own_words():
    """For the limit, and for not thinking."""
    asked = {"max_tokens": 7, "reasoning": {"effort": "high"}}
    body = json.loads(v1_chat(v1(HEAD, {"content": "a"}), **asked).body(thinks=True))
    assert (body["max_tokens"], body["reasoning_effort"], "reasoning" in body) == (6, "none", False)


def test_a_raw_prompt_grows():
    """The text stands behind it."""
    resumption = Resumption(Route.GENERATE, {"prompt": "Once ", "raw": True}, "w", 0.0, 1)
    resumption.take([b'{"response":"upon ","done":false}\n', b'{"response":"a","done":false}\n'])
    assert json.loads(resumption.body(thinks=True)) == {"prompt": "Once upon a", "raw": True}


@pytest.mark.parametrize(
    "sent",
    [
        native(thinking="Hm"),
        native(tool_calls=[{"function": {"name": "f", "arguments": {}}}]),
        b"no json\n",
    ],
)
def test_what_is_more_than_text_is_not_continued(sent):
    """Thoughts, tool calls, and what nobody can read."""
    with pytest.raises(NotContinued):
        chat(native("a"), sent)


@pytest.mark.parametrize("delta", [{"reasoning": "Hm"}, {"tool_calls": [{"index": 0}]}])
def test_the_same_on_v1(delta):
    """In its words."""
    with pytest.raises(NotContinued):
        v1_chat(v1(HEAD, {"role": "assistant", "content": ""}), v1(HEAD, delta))


def test_events_get_the_first_attempts_name():
    """The first event loses its role, those behind it are changed as bytes, and a text may hold anything."""
    resumption = v1_chat(v1(HEAD, {"role": "assistant", "content": "a"}))
    first = event(resumption.event(v1(THEIRS, {"role": "assistant", "content": "b"})))
    assert (first["id"], first["created"], first["choices"][0]["delta"]) == ("chatcmpl-1", 5, {"content": "b"})
    odd = {"content": '"choices":[ "role": "usage":{ chatcmpl-7 <&>'}
    assert resumption.event(v1(THEIRS, odd)) == v1(HEAD, odd)


@pytest.mark.parametrize(
    "one", [b": comment\n\n", b"data: [DONE]\n\n", b'data: {"error":{"message":"x"}}\n\n', b"data: {oh\n\n"]
)
def test_what_is_no_chunk_passes(one):
    """Comments, the end, errors and odd things."""
    assert v1_chat(v1(HEAD, {"content": "a"})).event(one) == one


def test_another_layout_is_renamed_too():
    """A node may write its members in another order."""
    resumption = v1_chat(v1(HEAD, {"content": "a"}))
    odd = b'data: {"choices": [{"delta": {"content": "b", "role": "assistant"}}], "id": "x", "created": 9}\n\n'
    told = event(resumption.event(odd))
    assert (told["id"], told["created"], told["model"]) == ("chatcmpl-1", 5, "m")
    assert told["choices"][0]["delta"] == {"content": "b"}


def test_usage_is_added_up():
    """The second prompt held what had been sent."""
    resumption = v1_chat(*(v1(HEAD, {"content": "a"}) for _ in range(3)))
    usage = {"prompt_tokens": 23, "completion_tokens": 4, "total_tokens": 27}
    told = event(resumption.event(v1(THEIRS, {}, usage=usage)))
    assert told["usage"] == {"prompt_tokens": 20, "completion_tokens": 7, "total_tokens": 27}


def test_the_final_object_adds_up():
    """Counts and durations of all attempts; the total from the first one's beginning."""
    resumption = chat(native("a"), native("b"))
    resumption.lost(100.0, 100.5, 102.5, cold=False)
    resumption.lost(103.0, 104.0, 104.0, cold=True)
    resumption.sent_at = 110.0
    counts = {"prompt_eval_count": 12, "eval_count": 5, "total_duration": 10**9, "eval_duration": 3 * 10**8}
    told = json.loads(resumption.final({"model": "m", "done": True, "done_reason": "stop"} | counts))
    assert (told["prompt_eval_count"], told["eval_count"]) == (10, 7)
    assert (told["total_duration"], told["eval_duration"]) == (11 * 10**9, 23 * 10**8)
    assert (told["prompt_eval_duration"], told["load_duration"]) == (5 * 10**8, 10**9)
    assert resumption.total(Metrics(12, 5)) == Metrics(10, 7)
    assert resumption.total(None) == Metrics(9, 2, counted=False)


def test_a_v1_stream_is_closed_as_far_as_it_was_open():
    """Finish, usage if it was asked for, and the end: each once."""
    asked = {"stream_options": {"include_usage": True}, "max_tokens": 1}
    said, finish = v1(HEAD, {"content": "a"}), v1(HEAD, {}, finish="stop")
    usage = {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10}
    counted = f'data: {{{HEAD},"choices":[],"usage":{json.dumps(usage)}}}\n\n'.encode()
    *events, done = v1_chat(said, **asked).closing(0.0)
    assert [event(one)["choices"] for one in events] == [[{"index": 0, "delta": {}, "finish_reason": "length"}], []]
    assert (event(events[1])["usage"], done) == (usage, b"data: [DONE]\n\n")
    assert len(v1_chat(said, finish, **asked).closing(0.0)) == 2
    assert v1_chat(said, finish, counted, **asked).closing(0.0) == [done]
    assert len(v1_chat(said, max_tokens=1).closing(0.0)) == 2


async def test_what_was_being_sent_when_the_attempt_was_interrupted_was_not_sent():
    """A client that reads slowly holds the sending up; the next attempt says that object again."""
    sent, held = [], asyncio.Event()

    async def send(message):
        if len(sent) == 2:
            held.set()
            await asyncio.Event().wait()
        sent.append(message["body"])

    pieces = [native(text) for text in ("a", "b", "c", "d")]
    seen = Relayed(Api.OLLAMA)
    seen.begin([])
    exchange = Exchange({"headers": [], "method": "POST"}, None, send)
    answer = CutAnswer(pieces)
    relaying = asyncio.ensure_future(relay_stream(exchange, answer, await answer.read(), seen, lambda: None))
    await held.wait()
    relaying.cancel()
    await asyncio.gather(relaying, return_exceptions=True)
    assert (seen.kept, seen.objects, sent) == (pieces[:2], 2, pieces[:2])


async def test_what_is_kept_is_bounded():
    """A stream that is longer goes on passing, and is no longer kept."""
    seen = Relayed(Api.OLLAMA)
    seen.begin([])
    seen.room = 1000
    data, sent = [native("word")] * 20, []

    async def send(message):
        sent.append(message["body"])

    exchange = Exchange({"headers": [], "method": "POST"}, None, send)
    answer = CutAnswer(data)
    await relay_stream(exchange, answer, await answer.read(), seen, lambda: None)
    assert (seen.kept, sent) == (None, data)
