"""What models say."""

from hypothesis import given
from hypothesis import strategies as st

from simulator.text import Chain, common_prefix, continuation, count_tokens, text_of_ids, token_ids

DIGEST = "ab" * 32
BOUNDS = (20, 120)


@given(st.text(max_size=300), st.data())
def test_a_cut_answer_given_back_goes_on_where_it_was_cut(prompt, data):
    """For every prompt and every cut between two tokens, the continuation is the rest, end included."""
    tokens, ended = Chain(DIGEST, prompt, BOUNDS).take(None)
    cut = data.draw(st.integers(0, len(tokens)))
    rest, rest_ended = Chain(DIGEST, prompt + "".join(tokens[:cut]), BOUNDS).take(None)
    assert (rest, rest_ended) == (tokens[cut:], ended)


@given(st.text(alphabet=" \n\t.aé", max_size=80), st.integers(0, 60), st.integers(1, 60))
def test_an_endless_answer_goes_on_where_it_was_cut(prompt, cut, more):
    """Without bounds the text still is a function of the text before it."""
    tokens, _ = Chain(DIGEST, prompt, None).take(cut + more)
    rest, ended = Chain(DIGEST, prompt + "".join(tokens[:cut]), None).take(more)
    assert rest == tokens[cut:]
    assert not ended


@given(st.text(max_size=200))
def test_answers_keep_their_bounds(prompt):
    """An answer that ends by itself has between 20 and 120 tokens and ends a sentence."""
    tokens, ended = Chain(DIGEST, prompt + "\n", BOUNDS).take(None)
    assert ended
    assert BOUNDS[0] <= len(tokens) <= BOUNDS[1]
    assert tokens[-1].endswith(".")


def test_another_model_says_something_else():
    """The text depends on the model's digest."""
    assert continuation(DIGEST, "hello", BOUNDS)[0] != continuation("cd" * 32, "hello", BOUNDS)[0]


def test_a_limit_cuts_the_same_text():
    """num_predict shortens an answer and changes none of it."""
    whole, _ = continuation(DIGEST, "hello", BOUNDS)
    assert continuation(DIGEST, "hello", BOUNDS, 5) == (whole[:5], False)


@given(st.text(alphabet=st.characters(blacklist_characters="\0", blacklist_categories=["Cs"])))
def test_context_numbers_give_the_text_back(text):
    """Token ids carry the whole text, one for each four bytes."""
    ids = token_ids(text)
    assert text_of_ids(ids) == text
    assert count_tokens(text) == max(1, len(ids))


@given(st.text(), st.text(), st.text())
def test_common_prefix_is_the_longest(start, left, right):
    """Both texts begin with it, and the next characters differ."""
    a, b = start + left, start + right
    length = common_prefix(a, b)
    assert a[:length] == b[:length]
    assert length == min(len(a), len(b)) or a[length] != b[length]
