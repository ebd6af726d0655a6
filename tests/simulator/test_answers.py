"""Structured output and tool calls."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.schema import json_text

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "The weather in a city",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}, "unit": {"enum": ["C", "F"]}},
                "required": ["city"],
            },
        },
    },
    {"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}}}},
]


@given(
    st.fixed_dictionaries(
        {
            "type": st.just("object"),
            "properties": st.dictionaries(
                st.text(min_size=1, max_size=5),
                st.sampled_from(
                    [
                        {"type": "string"},
                        {"type": "integer", "minimum": 3, "maximum": 5},
                        {"type": "array", "items": {"type": "boolean"}, "minItems": 2},
                        {"anyOf": [{"type": "number"}, {"type": "null"}]},
                        {"enum": ["a", "b"]},
                    ]
                ),
                max_size=4,
            ),
        }
    )
)
def test_structured_output_has_the_fields_of_its_schema(schema):
    """It is valid JSON, each time the same, with every property."""
    value = json.loads(json_text("seed", schema))
    assert set(value) == set(schema["properties"])
    assert json_text("seed", schema) == json_text("seed", schema)


def test_references_are_resolved():
    """Schemas as pydantic writes them have their parts in $defs."""
    schema = {
        "$defs": {"Pet": {"type": "object", "properties": {"age": {"type": "integer", "maximum": 0}}}},
        "type": "object",
        "properties": {"pets": {"type": "array", "items": {"$ref": "#/$defs/Pet"}}},
    }
    assert json.loads(json_text("seed", schema)) == {"pets": [{"age": 0}]}


@pytest.mark.parametrize("asked", ["json", {"type": "object", "properties": {"x": {"type": "number"}}}])
async def test_a_format_makes_the_answer_json(start, asked):
    """The joined content is one JSON object."""
    _, client = await start(models=["llama3.2:3b"])
    lines = await client.lines(
        "/api/chat", model="llama3.2:3b", messages=[{"role": "user", "content": "hi"}], format=asked
    )
    assert isinstance(json.loads("".join(line["message"]["content"] for line in lines)), dict)


async def test_a_tool_that_the_user_names_is_called(start):
    """The call arrives whole, in one object before the last one."""
    _, client = await start(models=["llama3.2:3b"])
    messages = [{"role": "user", "content": "please use get_weather for Bern"}]
    *_, calling, last = await client.lines("/api/chat", model="llama3.2:3b", messages=messages, tools=TOOLS)
    [call] = calling["message"]["tool_calls"]
    assert call["id"].startswith("call_")
    assert call["function"]["name"] == "get_weather"
    assert list(call["function"]["arguments"]) == ["city", "unit"]
    assert last["done_reason"] == "stop"
    assert last["eval_count"] > 0


async def test_after_the_tool_has_answered_there_is_text(start):
    """A last message of the role tool is answered in words."""
    _, client = await start(models=["llama3.2:3b"])
    messages = [{"role": "user", "content": "use now"}, {"role": "tool", "content": "12:00", "tool_name": "now"}]
    answer = await client.post("/api/chat", model="llama3.2:3b", messages=messages, tools=TOOLS)
    assert answer["message"]["content"]
    assert "tool_calls" not in answer["message"]


async def test_openai_tool_calls_have_their_arguments_as_text(start):
    """And the finish reason says tool_calls."""
    _, client = await start(models=["llama3.2:3b"])
    messages = [{"role": "user", "content": "now and get_weather"}]
    answer = await client.post("/v1/chat/completions", model="llama3.2:3b", messages=messages, tools=TOOLS)
    [choice] = answer["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert [call["function"]["name"] for call in choice["message"]["tool_calls"]] == ["get_weather", "now"]
    assert json.loads(choice["message"]["tool_calls"][1]["function"]["arguments"]) == {}
