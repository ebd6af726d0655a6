"""What the database itself refuses, and what validation says before it."""

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from fleet.models import ApiKey, Node, NodeModel, PriorityPolicy, Revision, Team
from fleet.models.node import normal_url

pytestmark = pytest.mark.django_db


def refused(model, **columns):
    with pytest.raises(IntegrityError), transaction.atomic():
        model.objects.create(**columns)


@pytest.mark.parametrize(
    "columns",
    [
        {"slots": 0},
        {"max_loaded": 0},
        {"cores": 0},
        {"vram_gb": 0},
        {"ram_gb": -1},
        {"weight": 0},
        {"cost_per_hour": -1},
        {"node_class": "tpu"},
        {"url": "ftp://ant:21"},
        {"name": ""},
        {"header_name": "X-Key"},
    ],
    ids=str,
)
def test_impossible_nodes(columns):
    """The database refuses a node that cannot be."""
    refused(Node, **{"name": "ant", "url": "http://ant:11434"} | columns)


def test_names_ignore_case(ant, bees):
    """Two nodes, or two teams, cannot differ by case alone."""
    refused(Node, name="ANT", url="http://other:1")
    refused(Team, name="bees")


def test_one_node_per_address(ant):
    """An address belongs to one node."""
    refused(Node, name="other", url=ant.url)


@pytest.mark.parametrize(
    "columns",
    [
        {"default_priority": 0},
        {"highest_priority": 11},
        {"batch_priority": 0},
        {"default_priority": 6, "highest_priority": 5},
        {"batch_priority": 6, "highest_priority": 5},
        {"share_weight": 0},
        {"max_concurrent": 0},
        {"concurrent_breach": "refuse"},
    ],
    ids=str,
)
def test_impossible_policies(bees, columns):
    """The database refuses a policy whose numbers contradict each other."""
    refused(PriorityPolicy, team=bees, **columns)


def test_one_policy_per_team(bees):
    """A team has one policy."""
    PriorityPolicy.objects.create(team=bees)
    refused(PriorityPolicy, team=bees)


def test_keys_have_whole_digests(bees):
    """A key without a whole prefix and SHA-256 is refused."""
    refused(ApiKey, team=bees, name="a", prefix="short", digest="0" * 64)
    refused(ApiKey, team=bees, name="a", prefix="abcdefgh", digest="0")


def test_a_model_is_somewhere(ant):
    """A row of a model that is neither installed nor loaded is refused, and so is a second one of a name."""
    refused(NodeModel, node=ant, key="a", name="a", installed=False)
    NodeModel.objects.create(node=ant, key="a", name="a")
    refused(NodeModel, node=ant, key="a", name="A")


def test_one_revision():
    """The revision is a single row."""
    refused(Revision, id=2)


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        ("gpu-1", "http://gpu-1:11434"),
        ("gpu-1:8080", "http://gpu-1:8080"),
        (" HTTP://GPU-1:8080/ ", "http://gpu-1:8080"),
        ("https://gpu-1", "https://gpu-1:443"),
        ("10.0.0.7", "http://10.0.0.7:11434"),
        ("[::1]:1", "http://[::1]:1"),
        ("http://[0:0::1]:11434", "http://[::1]:11434"),
    ],
)
def test_addresses_are_normalised(typed, kept):
    """What operators type becomes scheme, host and port, without a slash at the end."""
    assert normal_url(typed) == kept


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("", "Enter the node's address"),
        ("ftp://ant", "not ftp://"),
        ("http://bo:secret@ant:1", "credentials header"),
        ("http://ant:1/v1", "no path"),
        ("http://ant:1?x=1", "no path"),
        ("http://", "no valid host"),
        ("ant:99999", "not an address"),
        ("ant:x", "not an address"),
        ("a b", "no valid host"),
        ("http://ant:0", "Port 0"),
        ("[zz]:1", "address"),
    ],
)
def test_bad_addresses(typed, told):
    """An address that cannot be a node's is refused in words that say what to change."""
    with pytest.raises(ValidationError, match=told.replace("?", r"\?")):
        normal_url(typed)


def test_validation_names_fields(ant):
    """Validation tells all faults of a node at once, by field."""
    node = Node(name="a b", url="ANT:11434/", slots=0, labels={"a": 1}, header_name="Host", header_value="x")
    with pytest.raises(ValidationError) as caught:
        node.full_clean()
    assert {"name", "slots", "labels", "header_name"} <= set(caught.value.message_dict)


def test_spellings_of_an_address_are_one(ant):
    """Another spelling of a known address is told as taken."""
    with pytest.raises(ValidationError, match="address exists already"):
        Node(name="other", url="ANT").full_clean()


def test_header_injection(ant):
    """A line break in the credentials is refused."""
    ant.header_name, ant.header_value = "X-Key", "a\r\nX-Other: b"
    with pytest.raises(ValidationError, match="no line breaks"):
        ant.full_clean()
