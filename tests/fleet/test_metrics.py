"""What a scraper reads at /metrics."""

import re

import pytest

from routing.core.records import Outcome
from routing.gateway.tally import MODELS, OTHERS, Tally
from tests.fleet.scraped import families, published, record, samples

pytestmark = pytest.mark.django_db

#: Units and endings that Prometheus' conventions name.
UNITS = ("_seconds", "_total", "_per_second", "_ratio", "_bytes")


def test_speeds_and_first_bytes_by_model(api):
    """A stream of 101 tokens that wrote for two seconds has a speed of 50 tokens per second."""
    with published(record(first_byte_ms=500.0, total_ms=2500.0, output_tokens=101)):
        found = samples(api.get("/metrics").content.decode())
    model = ("model", "llama3:latest")
    assert found["sollol_output_tokens_per_second_sum", (model,)] == 50.0
    assert found["sollol_output_tokens_per_second_bucket", (("le", "50.0"), model)] == 1
    assert found["sollol_output_tokens_per_second_bucket", (("le", "30.0"), model)] == 0
    assert found["sollol_model_first_byte_seconds_sum", (model,)] == 0.5


def test_answers_in_one_piece_have_no_speed(api):
    """Without a stream nobody knows when the answer began."""
    with published(record(stream=False)):
        assert families(api.get("/metrics").content.decode())["sollol_output_tokens_per_second"].samples[-1].value == 0


def test_what_was_learned(api):
    """Learned speeds and counted loads are told by node and model."""
    with published():
        found = samples(api.get("/metrics").content.decode())
    labels = (("model", "llama3:latest"), ("node", "ant"))
    assert found["sollol_learned_output_tokens_per_second", labels] == 50.0
    assert found["sollol_learned_prompt_tokens_per_second", labels] == 1000.0
    assert (found["sollol_learned_load_seconds", labels], found["sollol_model_loads_total", labels]) == (3.0, 2.0)


def test_breakers(api):
    """A node's breaker is in one of three states; models' breakers are told while they are open."""
    with published():
        found = samples(api.get("/metrics").content.decode())
    states = {
        state: found["sollol_node_breaker_state", (("node", "ant"), ("state", state))]
        for state in ("closed", "open", "half_open")
    }
    assert states == {"closed": 0.0, "open": 0.0, "half_open": 1.0}
    assert found["sollol_model_breaker_open", (("model", "phi3:latest"), ("node", "ant"))] == 1.0


def test_quotas_lateness_and_the_recorder(api):
    """Quotas are told with their limit, the event loop with its lateness, the recorder with what waits."""
    with published():
        found = samples(api.get("/metrics").content.decode())
    labels = (("from_priority", ""), ("measure", "tokens"), ("team", "Bees"), ("window", "day"))
    assert (found["sollol_quota_used", labels], found["sollol_quota_limit", labels]) == (900.0, 1000.0)
    assert found["sollol_event_loop_lag_seconds_bucket", (("le", "0.0025"),)] == 1.0
    assert found["sollol_recorder_pending", ()] == 7.0


def test_requests_in_every_label(api):
    """Requests are counted by route, model, team, node and outcome."""
    with published(record(), record(outcome=Outcome.FAILED), record()):
        found = samples(api.get("/metrics").content.decode())
    labels = {"model": "llama3:latest", "node": "ant", "route": "/api/chat", "team": "Bees"}
    counts = {
        outcome: found["sollol_requests_total", tuple(sorted({**labels, "outcome": outcome}.items()))]
        for outcome in ("served", "failed")
    }
    assert counts == {"served": 2.0, "failed": 1.0}


def test_conventions(api):
    """Every name is ours and in snake case, every metric is explained, and no sample is told twice."""
    with published():
        text = api.get("/metrics").content.decode()
    for name, family in families(text).items():
        assert re.fullmatch(r"sollol_[a-z0-9_]+", name)
        assert len(family.documentation) > 10
        if family.type == "histogram":
            assert name.endswith(UNITS)
    lines = [line.rpartition(" ")[0] for line in text.splitlines() if not line.startswith("#")]
    assert len(lines) == len(set(lines))


def test_made_up_models_add_no_labels():
    """From some hundred models on, others are counted together."""
    tally = Tally()
    for number in range(MODELS + 50):
        tally.take(record(), f"model-{number}", "", "")
    models = {key[1] for key in tally.requests}
    assert (len(models), OTHERS in models, len(tally.rates)) == (MODELS + 1, True, MODELS + 1)


def test_without_a_gateway(api):
    """Where no gateway runs there is nothing to tell."""
    assert api.get("/metrics").status_code == 503
