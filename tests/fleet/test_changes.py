"""What is told of a picture that follows another."""

import copy

from hypothesis import given
from hypothesis import strategies as st

from fleet.services.changes import changes

BEFORE = {
    "summary": {"waiting": 0},
    "nodes": {"1": {"name": "ant", "in_flight": 0}, "2": {"name": "bee", "in_flight": 1}},
    "series": {"7": [15, 1.0], "8": [30, 2.0]},
    "requests": [{"id": "b"}, {"id": "a"}],
}


def merged(picture, change):
    """As the page does it (static/dashboard/picture.js)."""
    picture = copy.deepcopy(picture)
    for name, part in change.items():
        if name in {"nodes", "series"}:
            for key in part.get("gone", ()):
                del picture[name][key]
            for key, row in part["set"].items():
                known = picture[name].get(key)
                picture[name][key] = {**known, **row} if name == "nodes" and known else row
        elif name == "requests":
            picture[name] = [*part, *picture[name]][:3]
        else:
            picture[name] = part
    return picture


def test_nothing_is_told_of_what_is_the_same():
    """Two equal pictures have no difference."""
    assert changes(BEFORE, copy.deepcopy(BEFORE)) == {}


def test_only_the_members_that_differ_are_told():
    """Of a hundred nodes' rows the one number that moved is sent."""
    after = copy.deepcopy(BEFORE)
    after["nodes"]["1"]["in_flight"] = 3
    assert changes(BEFORE, after) == {"nodes": {"set": {"1": {"in_flight": 3}}}}


def test_new_requests_alone_are_told():
    """The stream is sent from the top down to what was known."""
    after = {**BEFORE, "requests": [{"id": "d"}, {"id": "c"}, {"id": "b"}]}
    assert changes(BEFORE, after) == {"requests": [{"id": "d"}, {"id": "c"}]}


NODE = st.fixed_dictionaries({"name": st.sampled_from("abc"), "in_flight": st.integers(0, 3)})
PICTURE = st.fixed_dictionaries(
    {
        "summary": st.integers(),
        "nodes": st.dictionaries(st.sampled_from("123"), NODE),
        "series": st.dictionaries(st.sampled_from("789"), st.lists(st.integers(0, 2), min_size=1, max_size=2)),
    }
)


@given(PICTURE, PICTURE, st.integers(0, 4))
def test_a_page_that_merges_has_what_the_gateway_has(before, after, new):
    """Whatever changes, merging what was told gives the newer picture."""
    before["requests"] = [{"id": number} for number in (3, 2, 1)]
    after["requests"] = [{"id": number} for number in range(3 + new, new, -1)]
    assert merged(before, changes(before, after)) == after
