"""One event in the log for each ended request."""

import json
import logging

import pytest

from fleet.recorder import DatabaseRecorder
from fleet.services.journal import Journal
from routing.core.records import NodeEvent, Outcome
from sollol_site.logs import configuration
from tests.fleet.scraped import record
from tests.fleet.test_recorder import Shelf, until


@pytest.fixture(params=["line", "json"])
def written(request, capsys):
    """Turns an entry of the log into the text that is written."""
    made = configuration("INFO", request.param)["formatters"]["entry"]
    formatter = made.pop("()")(**made)

    def write(entries):
        return request.param, [formatter.format(entry) for entry in entries]

    return write


def told(caplog, journal, *records, teams=None, nodes=None):
    with caplog.at_level(logging.INFO, "sollol.requests"):
        journal(records, teams or {}, nodes or {})
    return [entry for entry in caplog.records if entry.name == "sollol.requests"]


def test_an_event_tells_the_id_and_the_names(caplog, written):
    """Id, outcome, team, node and times stand in the entry, in both forms."""
    entries = told(caplog, Journal("all"), record(team_id=1, node_id=2), teams={1: "Bees"}, nodes={2: "ant"})
    shape, [text] = written(entries)
    if shape == "json":
        event = json.loads(text)
        assert (event["event"], event["logger"], event["level"]) == ("request", "sollol.requests", "info")
        assert not [name for name in event if name.startswith("_")]
        assert (event["id"], event["team"], event["node"], event["total_ms"]) == ("r1", "Bees", "ant", 2500.0)
        return
    assert " INFO sollol.requests: request " in text
    assert " id=r1 outcome=served status=200 " in text
    assert " team=Bees node=ant " in text


def test_entries_of_others_have_the_same_form(written):
    """What the standard library logs is written alike, with its traceback."""
    try:
        raise ValueError("odd")  # noqa: TRY301 (there must be one to tell of)
    except ValueError as error:
        fault = (ValueError, error, error.__traceback__)
    shape, [text] = written([logging.LogRecord("django", 30, "f.py", 1, "%d rows", (3,), fault)])
    assert "3 rows" in text
    assert "ValueError: odd" in text
    if shape == "json":
        assert json.loads(text)["level"] == "warning"


def test_nothing_of_what_was_said(caplog):
    """Not even texts of errors, which may quote it."""
    entries = told(caplog, Journal("all"), record(outcome=Outcome.FAILED, error="my secret prompt"))
    assert "secret" not in str([entry.__dict__ for entry in entries])


@pytest.mark.parametrize(("kept", "ids"), [("all", ["a", "b"]), ("errors", ["b"]), ("off", [])])
def test_which_requests(caplog, kept, ids):
    """All, those that went wrong, or none; node events are no requests."""
    batch = (record(request_id="a"), record(request_id="b", outcome=Outcome.FAILED), NodeEvent(1, 1.0, "up"))
    assert [entry.msg["id"] for entry in told(caplog, Journal(kept), *batch)] == ids


async def test_each_request_once_although_the_database_is_away():
    """The recorder tells of a batch when it first writes it, and not again when it tries anew."""
    heard = []

    def hear(batch, *names):
        heard.extend(batch)

    recorder = DatabaseRecorder(store=Shelf(away=2), interval_s=0.001, readers=[hear])
    await recorder.start()
    recorder.request(record(request_id="a"))
    await until(lambda: recorder.written == 1)
    await recorder.stop()
    assert [one.request_id for one in heard] == ["a"]


async def test_a_reader_that_fails_harms_nobody():
    """What goes wrong in telling is logged, and the rows are stored."""

    def fail(batch, *names):
        raise RuntimeError("odd")

    recorder = DatabaseRecorder(store=Shelf(), interval_s=0.001, readers=[fail])
    await recorder.start()
    recorder.request(record())
    await until(lambda: recorder.written == 1)
    await recorder.stop()
