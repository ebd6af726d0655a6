"""The control plane against its own OpenAPI description."""

import pytest
import schemathesis
import yaml
from django.core.signals import request_finished, request_started
from django.core.wsgi import get_wsgi_application
from django.db import close_old_connections, connection
from hypothesis import HealthCheck, Phase, settings
from schemathesis.config import SchemathesisConfig
from schemathesis.specs.openapi.checks import positive_data_acceptance

from fleet import live
from fleet.models import (
    ApiKey,
    BatchJob,
    LearnedSpeed,
    Node,
    NodeModel,
    PrefillProbe,
    PriorityPolicy,
    RoutingRule,
    RoutingStrategy,
    Team,
)
from fleet.services import keys
from fleet.services.batch import jobs
from scripts.openapi import DOCUMENT, description
from tests.fleet.conftest import populate
from tests.fleet.scraped import published

pytestmark = pytest.mark.django_db

MODELS = {
    "keys": ApiKey,
    "models": NodeModel,
    "nodes": Node,
    "policies": PriorityPolicy,
    "prefills": PrefillProbe,
    "rules": RoutingRule,
    "speeds": LearnedSpeed,
    "strategies": RoutingStrategy,
    "teams": Team,
}
CONFIG = SchemathesisConfig.from_dict({"phases": {"coverage": {"enabled": False}}})
SCHEMA = schemathesis.openapi.from_dict(yaml.safe_load(DOCUMENT.read_text()), config=CONFIG)
SCHEMA.app = get_wsgi_application()
#: Requests per address: the whole of it takes seconds.
EXAMPLES = 6


@pytest.fixture
def one_connection():
    """Requests stay in the test's transaction: nobody closes its connection, as in Django's own test client."""
    signals = (request_started, request_finished)
    for signal in signals:
        signal.disconnect(close_old_connections)
    yield
    for signal in signals:
        signal.connect(close_old_connections)


@pytest.fixture
def plain(one_connection, bees):
    """A fleet with a row of everything, and a key that manages it."""
    node = populate(1)
    node.url = "http://127.0.0.1:9"  # whoever probes it is refused at once
    node.save()
    jobs.create(jobs.Owner(bees), [jobs.Input("buzz")], model="nomic-embed-text")
    with published():
        yield keys.create(bees, "ops", ["manage"]).plain
    live.publish(None)


def row_of(path):
    """The id of a row that exists, of those that a path is about."""
    if path.startswith("/api/batch/"):
        return BatchJob.objects.values_list("public_id", flat=True).first()
    model = MODELS[path.split("/")[3]]
    return model.objects.order_by("pk").values_list("pk", flat=True).first()


@SCHEMA.parametrize()
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
)
def test_whatever_is_asked(case, plain):
    """Whatever is asked, there is no fault of ours, what does not fit is refused, and answers are as described.

    What fits may be refused: the description does not tell which teams there are and which names are taken.
    """
    if (number := case.path_parameters.get("id")) is not None and str(number).endswith(("0", "2", "4", "6", "8")):
        case.path_parameters["id"] = row_of(case.path) or number
    case.call_and_validate(headers={"Authorization": f"Bearer {plain}"}, excluded_checks=[positive_data_acceptance])


def test_the_document_is_up_to_date():
    """docs/openapi.yaml is what the code says; `make docs` writes it."""
    if connection.vendor != "sqlite":
        pytest.skip("the bounds of numbers in it are SQLite's")
    assert DOCUMENT.read_text() == description()
