"""Answers that are resumed on another node."""

import pytest

from tests.simulator.conftest import small

MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Tell me of bees"}]


async def said(client, path="/api/chat", **body):
    """The contents of a streamed chat, token by token, without the final object."""
    lines = await client.lines(path, **body)
    return [line["message"]["content"] if "message" in line else line["response"] for line in lines[:-1]]


async def test_nodes_with_the_same_model_say_the_same(start):
    """The text is a function of model and prompt, whatever the machine."""
    _, ant = await start(models=["llama3.2:3b"])
    _, bee = await start("cpu-32", models=["llama3.2:3b"])
    assert await said(ant, model="llama3.2:3b", messages=MESSAGES) == await said(
        bee, model="llama3.2:3b", messages=MESSAGES
    )


async def test_a_chat_resumed_by_prefill_goes_on_token_for_token(start):
    """The partial answer as last message yields exactly the rest."""
    _, ant = await start(models=["llama3.2:3b"])
    whole = await said(ant, model="llama3.2:3b", messages=MESSAGES)
    partial = {"role": "assistant", "content": "".join(whole[:7])}
    assert await said(ant, model="llama3.2:3b", messages=[*MESSAGES, partial]) == whole[7:]


async def test_a_raw_prompt_resumed_goes_on_token_for_token(start):
    """The partial answer at the end of a raw prompt yields exactly the rest."""
    _, ant = await start(models=["llama3.2:3b"])
    whole = await said(ant, "/api/generate", model="llama3.2:3b", prompt="Once upon", raw=True)
    prompt = "Once upon" + "".join(whole[:11])
    assert await said(ant, "/api/generate", model="llama3.2:3b", prompt=prompt, raw=True) == whole[11:]


async def test_a_model_that_trims_drops_the_blank_in_front(start):
    """Some models go on without the white space that belongs between the two parts."""
    _, ant = await start(models=[small("cat:1b", prefill="trim")])
    whole = await said(ant, model="cat:1b", messages=MESSAGES)
    partial = {"role": "assistant", "content": "".join(whole[:5])}
    rest = await said(ant, model="cat:1b", messages=[*MESSAGES, partial])
    assert rest == [whole[5].lstrip(), *whole[6:]]


async def test_a_model_that_restarts_answers_from_the_beginning(start):
    """Some models do not continue the last message but answer anew."""
    _, ant = await start(models=[small("cat:1b", prefill="restart")])
    whole = await said(ant, model="cat:1b", messages=MESSAGES)
    partial = {"role": "assistant", "content": "".join(whole[:5])}
    assert await said(ant, model="cat:1b", messages=[*MESSAGES, partial]) == whole


@pytest.fixture
def thinker():
    return small("owl:1b", capabilities=("completion", "thinking"))


async def test_a_thinking_model_thinks_first(start, thinker):
    """Thinking tokens come before the content, and think=false leaves only the content."""
    _, ant = await start(models=[thinker])
    answer = (await ant.chat("owl:1b"))["message"]
    assert answer["thinking"]
    assert (await ant.chat("owl:1b", think=False))["message"] == {"role": "assistant", "content": answer["content"]}


async def test_resumed_content_is_not_thought_about_again(start, thinker):
    """A prefilled content goes on without thinking, as the rest of the whole answer."""
    _, ant = await start(models=[thinker])
    whole = await ant.lines("/api/chat", model="owl:1b", messages=MESSAGES)
    content = [line["message"]["content"] for line in whole[:-1] if "thinking" not in line["message"]]
    partial = {"role": "assistant", "content": "".join(content[:3])}
    assert await said(ant, model="owl:1b", messages=[*MESSAGES, partial]) == content[3:]


async def test_resumed_thinking_goes_on(start, thinker):
    """A prefilled thought is thought to its end, and the content follows."""
    _, ant = await start(models=[thinker])
    whole = [line["message"] for line in await ant.lines("/api/chat", model="owl:1b", messages=MESSAGES)]
    partial = {"role": "assistant", "content": "", "thinking": "".join(m["thinking"] for m in whole[:4])}
    lines = await ant.lines("/api/chat", model="owl:1b", messages=[*MESSAGES, partial])
    assert [line["message"] for line in lines] == whole[4:]


async def test_context_numbers_continue_a_conversation(start):
    """The context of an answer, given to another node with the same model, leads to the same next answer."""
    _, ant = await start(models=["llama3.2:3b"])
    _, bee = await start(models=["llama3.2:3b"])
    first = await ant.post("/api/generate", model="llama3.2:3b", prompt="one")
    asked = {"model": "llama3.2:3b", "prompt": "two", "context": first["context"]}
    second = await ant.post("/api/generate", **asked)
    assert second["response"] == (await bee.post("/api/generate", **asked))["response"]
    assert second["response"] != (await bee.post("/api/generate", model="llama3.2:3b", prompt="two"))["response"]


async def test_structured_output_resumes(start):
    """JSON text that was cut goes on, and the whole is valid for its schema."""
    _, ant = await start(models=["llama3.2:3b"])
    schema = {"type": "object", "properties": {"name": {"type": "string"}, "age": {"type": "integer", "maximum": 9}}}
    asked = {"model": "llama3.2:3b", "format": schema}
    whole = await said(ant, messages=MESSAGES, **asked)
    partial = {"role": "assistant", "content": "".join(whole[:3])}
    assert await said(ant, messages=[*MESSAGES, partial], **asked) == whole[3:]
