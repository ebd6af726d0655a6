"""Taking embedding answers apart and putting them together is exact, whatever the texts are."""

import asyncio
import json
from collections import deque

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from routing.core.requests import Route
from routing.gateway.embedding.answers import apart, counted, tail_of, together
from routing.gateway.embedding.asked import Wanted, wanted
from routing.gateway.embedding.cache import ENTRY, VectorCache, keys_of
from routing.gateway.embedding.counts import shared
from routing.gateway.embedding.disk import ROW, DiskVectors
from routing.gateway.embedding.spread import spread
from routing.ports import Kept

NUMBERS = st.floats(-1, 1, width=32)
VECTORS = st.lists(st.lists(NUMBERS, min_size=1, max_size=4), min_size=1, max_size=6)
TEXTS = st.lists(st.text(max_size=40), min_size=1, max_size=12)
ROUTES = st.sampled_from([Route.EMBED, Route.V1_EMBEDDINGS])
MODELS = st.text(max_size=20).map(lambda name: name + '"embeddings":[[1],[2]],"data":[{}]')


def written(vector) -> bytes:
    return orjson.dumps(vector)


@given(ROUTES, MODELS, VECTORS, st.integers(1, 10**6))
def test_what_is_put_together_comes_apart_again(route, model, vectors, tokens):
    """The same bytes for each vector, in order, and the same count."""
    raw = [written(vector) for vector in vectors]
    data = together(route, model, raw, tail_of(route, model, tokens, 5, 3))
    found = apart(route, data, len(raw))
    assert (found.vectors, found.tokens) == (raw, tokens)
    assert together(route, model, found.vectors, found.tail) == data
    value = json.loads(data)
    assert value["model"] == model
    told = value["embeddings"] if route is Route.EMBED else [row["embedding"] for row in value["data"]]
    assert told == [json.loads(one) for one in raw]


@given(ROUTES, VECTORS, st.data())
def test_split_and_joined_is_as_it_was(route, vectors, data):
    """Parts of an answer, put together again, are the answer."""
    raw = [written(vector) for vector in vectors]
    whole = together(route, "m", raw, tail_of(route, "m", 100, 7, 2))
    cut = data.draw(st.integers(0, len(raw)))
    parts = [part for part in (raw[:cut], raw[cut:]) if part]
    found = [apart(route, together(route, "m", part, tail_of(route, "m", 1, 7, 2)), len(part)) for part in parts]
    again = [vector for part in found for vector in part.vectors]
    assert together(route, "m", again, counted(route, found[0].tail, 100)) == whole


@given(ROUTES, VECTORS, st.integers(0, 9))
def test_an_answer_for_another_number_of_texts_is_none(route, vectors, more):
    """What does not fit is not used."""
    data = together(route, "m", list(map(written, vectors)), tail_of(route, "m", 1))
    assert (apart(route, data, len(vectors) + more) is None) == (more > 0)


@given(ROUTES, VECTORS)
def test_json_that_is_written_otherwise_is_read_as_well(route, vectors):
    """A server that writes blanks is no Ollama, but its numbers count."""
    data = together(route, "m", list(map(written, vectors)), tail_of(route, "m", 9))
    found = apart(route, json.dumps(json.loads(data), indent=2).encode(), len(vectors))
    assert [json.loads(vector) for vector in found.vectors] == [json.loads(written(vector)) for vector in vectors]
    assert found.tokens == 9


@given(st.binary(max_size=200), ROUTES, st.integers(1, 3))
def test_any_bytes_are_read_without_an_exception(data, route, count):
    """Whatever a node sends."""
    for junk in (data, b'{"embeddings":[' + data + b"]]}", b'{"data":[' + data + b"}]}"):
        found = apart(route, junk, count)
        assert found is None or len(found.vectors) == count


@given(TEXTS, st.integers(0, 10_000))
def test_shares_sum_to_what_the_node_told(texts, total):
    """Exactly; none is negative, and a longer text has no smaller share."""
    counts = shared(total, texts)
    assert sum(counts) == total
    assert min(counts) >= 0
    sizes = [len(text.encode("utf-8", "surrogatepass")) for text in texts]
    assert all(
        a <= b + 1 for a, n in zip(counts, sizes, strict=True) for b, m in zip(counts, sizes, strict=True) if n < m
    )


@given(TEXTS, st.lists(st.floats(1.0, 1e6), min_size=1, max_size=5), st.randoms(use_true_random=False))
def test_every_text_is_in_exactly_one_part(texts, rates, random):
    """However fast the nodes are, whoever comes next, and whatever fails."""
    work = spread(Wanted(Route.EMBED, texts, {}))
    done: list[int] = []
    work.rates = dict(enumerate(rates))
    for _ in range(20 * len(texts)):
        if not work.pending:
            break
        part = work.part(random.randrange(len(rates)), work.left)
        assert part.indexes
        if random.random() < 0.3:
            work.give_back(part)
        else:
            done += part.indexes
    while work.pending:
        done += work.part(0, work.left).indexes
    assert sorted(done) == list(range(len(texts)))
    assert work.left == pytest.approx(0.0, abs=1e-6)
    assert work.pending == deque()


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"input": ""},
        {"input": []},
        {"input": None},
        {"input": [1, 2]},
        {"input": ["a", 3]},
        {"input": {"a": 1}},
        {"input": [["a"]]},
        {"input": 7},
    ],
)
def test_what_a_node_is_to_refuse_or_to_load_is_left_to_it(body):
    """Only texts are taken in hand."""
    assert wanted(Route.EMBED, body) is None


def filled(*texts, dimensions=None):
    one = Wanted(Route.EMBED, list(texts), {"model": "m"} | ({"dimensions": dimensions} if dimensions else {}))
    one.digest = "sha256:ant"
    one.keys = keys_of(one, one.options)
    one.take(range(len(texts)), [b"[%d]" % len(text) * 100 for text in texts], [1] * len(texts))
    return one


async def known(cache, *texts, **options):
    asked = Wanted(Route.EMBED, list(texts), {"model": "m", **options}, digest="sha256:ant")
    await cache.fill(asked)
    return [vector is not None for vector in asked.vectors]


async def test_the_least_recently_used_vectors_go_first():
    """The cache is bounded in bytes."""
    cache = VectorCache(most=3 * (300 + ENTRY))
    for text in ("a", "bb", "ccc"):
        cache.keep(filled(text), [0])
    assert await known(cache, "a") == [True]
    cache.keep(filled("dddd"), [0])
    assert await known(cache, "a", "bb", "ccc", "dddd") == [True, False, True, True]
    assert cache.size <= cache.most
    assert (cache.hits, cache.misses) == (4, 1)


async def test_keys_are_of_weights_options_and_text():
    """Spelling, keep_alive and what is as by default make no difference."""
    cache = VectorCache(most=1 << 20)
    cache.keep(filled("a"), [0])
    assert await known(cache, "a", truncate=True, keep_alive="5m", options={}) == [True]
    assert await known(cache, "a", truncate=False) == [False]
    assert await known(cache, "a", dimensions=8) == [False]
    assert await known(cache, "a", options={"num_ctx": 512}) == [False]
    other = Wanted(Route.EMBED, ["a"], {"model": "m"}, digest="sha256:bee")
    await cache.fill(other)
    assert other.cached == 0


async def test_the_file_is_bounded_and_outlives_its_process(tmp_path):
    """What was used last stays."""
    store = DiskVectors(tmp_path / "v.sqlite3", 600 * (100 + ROW))
    for start in range(0, 1000, 100):
        store.put({b"%04d" % i: Kept(i, b"x" * 100) for i in range(start, start + 100)})
    assert await store.get([b"0000", b"0999"]) == {b"0999": Kept(999, b"x" * 100)}
    await store.close()
    again = DiskVectors(tmp_path / "v.sqlite3", 600 * (100 + ROW))
    found = await again.get([b"%04d" % i for i in range(1000)])
    assert 100 <= len(found) <= 600
    assert b"0999" in found
    await again.close()


async def test_a_file_that_cannot_be_used_is_an_empty_cache(tmp_path, caplog):
    """It is told once, and fails no request."""
    (tmp_path / "v.sqlite3").write_bytes(b"this is no database" * 100)
    store = DiskVectors(tmp_path / "v.sqlite3", 1 << 20)
    for _ in range(3):
        store.put({b"a": Kept(1, b"x")})
        assert await store.get([b"a"]) == {}
    await store.close()
    assert sum("cannot be used" in record.message for record in caplog.records) == 1


async def test_a_slow_disk_holds_up_nobody(tmp_path):
    """Writing is behind the answer; reading leaves the loop free."""
    store = DiskVectors(tmp_path / "v.sqlite3", 1 << 24)
    for i in range(50):
        store.put({b"%d-%d" % (i, j): Kept(1, b"x" * 1000) for j in range(20)})
    reading = asyncio.ensure_future(store.get([b"49-19"]))
    turns = 0
    while not reading.done():
        await asyncio.sleep(0)
        turns += 1
    assert turns > 1
    assert len(await reading) == 1
    await store.close()
