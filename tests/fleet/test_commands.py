"""The command line."""

from io import StringIO

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command

from fleet.models import ApiKey, Node, Team
from fleet.selectors.keys import by_digest
from fleet.services.keys import digest

pytestmark = pytest.mark.django_db


def run(*words, **options):
    out, err = StringIO(), StringIO()
    call_command(*words, stdout=out, stderr=err, **options)
    return out.getvalue(), err.getvalue()


def test_seed_nodes_from_the_setting(settings):
    """Without an argument the nodes come from SOLLOL_NODES."""
    settings.ENV = settings.ENV.model_copy(update={"sollol_nodes": "ant=10.0.0.1?slots=2"})
    assert "added ant http://10.0.0.1:11434 slots=2" in run("seed_nodes")[0]
    assert "kept" in run("seed_nodes")[0]


def test_seed_nodes_tells_what_is_wrong():
    """A bad entry ends the command with one line that names it."""
    with pytest.raises(CommandError, match="node 'ant:x'"):
        run("seed_nodes", "ant:x")


def test_ensure_admin_once():
    """The first run prints a password that works, alone; the second prints nothing."""
    password = run("ensure_admin")[0].strip()
    assert User.objects.get(username="admin").check_password(password)
    assert run("ensure_admin")[0] == ""


def test_ensure_admin_takes_nobody_over():
    """A user of that name who is no superuser is not made one."""
    User.objects.create_user("admin")
    with pytest.raises(CommandError, match="--username"):
        run("ensure_admin")


def test_create_key(bees):
    """The key is printed alone, once, and is a key of the team."""
    plain = run("create_key", "bees", "--scopes", "inference,models", "--name", "chat")[0].strip()
    key = by_digest(digest(plain))
    assert (key.team, key.scopes, key.name) == (bees, ["inference", "models"], "chat")


def test_create_key_for_a_new_team():
    """A team is created only if asked for, and not if the key fails."""
    with pytest.raises(CommandError, match="add --create-team"):
        run("create_key", "Cats")
    with pytest.raises(CommandError, match="Scopes are"):
        run("create_key", "Cats", "--create-team", "--scopes", "all")
    assert not Team.objects.exists()
    run("create_key", "Cats", "--create-team", "--expires-days", "1")
    assert ApiKey.objects.get().expires_at is not None


def test_probe_nodes_prints_a_table():
    """Each node is a line with what it said; a dead node ends the command with status 1."""
    Node.objects.create(name="ant", url="http://127.0.0.1:9")
    out = StringIO()
    with pytest.raises(CommandError, match="1 of 1 nodes down"):
        call_command("probe_nodes", stdout=out)
    assert "cannot connect" in out.getvalue()


def test_probe_nodes_knows_names():
    """A name that no node has is told, and so is an empty fleet."""
    with pytest.raises(CommandError, match="no node is called dog"):
        run("probe_nodes", "dog")
    with pytest.raises(CommandError, match="there are no nodes"):
        run("probe_nodes")
