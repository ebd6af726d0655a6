"""Nodes and policies written as CSV and YAML, and read back: all of it or nothing, after a look at what will change."""

import io
import json

import pytest
import yaml
from django.contrib.admin.models import LogEntry
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import CommandError, call_command
from django.urls import reverse
from django.utils import timezone

from fleet.models import Node, PriorityPolicy, Quota
from fleet.selectors.usage import policies
from fleet.services.imports import carry_out, plan_nodes, plan_policies
from fleet.services.texts import FORMATS, node_rows, policy_rows, read, written
from tests.fleet.conftest import add_quota, make_node

pytestmark = pytest.mark.django_db
IMPORT = "admin:fleet_node_import_rows"
BEE = "- {name: bee, url: bee, slots: 2, labels: {rack: a1}}\n"


def nodes_text(form):
    return written(node_rows(Node.objects.order_by("name")), form)


def policies_text(form):
    return written(policy_rows(policies(timezone.now().date())), form)


@pytest.mark.parametrize("form", FORMATS)
def test_what_is_exported_changes_nothing(ant, bee, form):
    """A text that was just exported, read back, changes nothing."""
    Node.objects.filter(pk=ant.pk).update(labels={"rack": "a1"}, region="=cmd|x", max_loaded=3)
    plan = plan_nodes(read(nodes_text(form), form))
    assert (plan.faults, plan.count("same")) == ([], 2)


@pytest.mark.parametrize("form", FORMATS)
def test_nodes_come_back(ant, bee, form):
    """Nodes that were deleted come back as they were."""
    Node.objects.filter(pk=ant.pk).update(labels={"rack": "a1"}, vram_gb=24.5, draining=True)
    text = nodes_text(form)
    Node.objects.all().delete()
    carry_out(plan_nodes(read(text, form)))
    assert nodes_text(form) == text


@pytest.mark.parametrize("form", FORMATS)
def test_policies_come_back(bees, cats, form):
    """Policies that were deleted come back with their quotas."""
    add_quota(bees, amount=50)
    add_quota(bees, window="minute", from_priority=8, breach="demote")
    PriorityPolicy.objects.create(team=cats, share_weight=2.5, max_concurrent=3)
    text = policies_text(form)
    PriorityPolicy.objects.all().delete()
    carry_out(plan_policies(read(text, form)))
    assert policies_text(form) == text


def test_no_credentials_are_exported(db):
    """Credentials are in no export, and an import leaves them alone."""
    make_node("ant", header_name="X-Key", header_value="secret-of-the-node")
    text = nodes_text("csv")
    assert "secret-of-the-node" not in text
    carry_out(plan_nodes(read(text.replace("ant", "ANT", 1), "csv")))
    assert Node.objects.get().header_value == "secret-of-the-node"


def test_what_will_change_is_told(ant):
    """A plan tells for each row what it was and what it will be; columns that are not there stay."""
    plan = plan_nodes(read("name,slots\nANT,8\n", "csv"))
    [change] = plan.changes
    assert (change.kind, change.lines()) == ("changed", ["name: ant → ANT", "slots: 4 → 8"])
    assert Node.objects.get().slots == 4
    carry_out(plan)
    assert (Node.objects.get().slots, Node.objects.get().vram_gb) == (8, 24)


def test_a_node_with_a_new_name_is_known_by_its_address(ant):
    """An address that a node has means that node."""
    carry_out(plan_nodes(read("name,url\nemmet,ant\n", "csv")))
    assert Node.objects.get().name == "emmet"


def test_nothing_half_imported(ant):
    """One fault anywhere, and nothing is imported; each fault is told with its row."""
    plan = plan_nodes(
        read(BEE + "- {name: cat, url: 'ftp://cat', slots: 0}\n- {name: dog, url: dog, colour: red}\n", "yaml")
    )
    assert [fault.partition(": ")[0] for fault in plan.faults] == ["row 2", "row 2", "row 3"]
    with pytest.raises(ValueError, match="unknown column colour"):
        carry_out(plan)
    assert list(Node.objects.all()) == [ant]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("name,url\nbee,bee\nBEE,bee2\n", "another row before it has the name bee"),
        ("name,url\nbee,x\ncat,x\n", "another row before it has the url http://x:11434"),
        ("name,url,slots\nbee,bee,many\n", "slots"),
        ("name,url,enabled\nbee,bee,perhaps\n", "neither yes nor no"),
        ("name,url,labels\nbee,bee,rack\n", "is no JSON"),
        ("name,url,header_name\nbee,bee,X-Key\n", "Give the credentials header's name and value"),
        ("url\nftp://x\n", "http:// or https://"),
    ],
)
def test_faults(db, text, told):
    """What is wrong is told in words."""
    assert told in " ".join(plan_nodes(read(text, "csv")).faults)


@pytest.mark.parametrize(
    ("text", "form", "told"),
    [
        ("", "csv", "no rows"),
        ("name,url\nbee\n", "csv", "not as many cells"),
        ("name: [", "yaml", "this is not YAML"),
        ("name: bee", "yaml", "a list of mappings"),
        ("- &a {name: bee}\n- *a\n", "yaml", "aliases"),
        ("- !!python/object/apply:os.system [ls]", "yaml", "this is not YAML"),
        ("name,url\n" + "bee,bee\n" * 5001, "csv", "at most 5,000"),
        ("x" * (2 * 2**20 + 1), "csv", "longer than 2 MiB"),
    ],
    ids=range(8),
)
def test_no_text_of_ours(text, form, told):
    """A text that is none is refused in words."""
    with pytest.raises(ValueError, match=told):
        read(text, form)


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"team": "Wasps"}, "no team is called 'Wasps'"),
        ({}, "names no team"),
        ({"team": "bees", "highest_priority": 3}, "above the highest priority"),
        ({"team": "bees", "quotas": "many"}, "is no JSON"),
        ({"team": "bees", "quotas": [{"amount": 0}]}, "above 0"),
        ({"team": "bees", "quotas": [{"amount": 5, "window": "year"}]}, "year"),
        ({"team": "bees", "quotas": [{"amount": 5}, {"amount": 6}]}, "two are of the same"),
        ({"team": "bees", "quotas": [{"amount": 5, "of": "x"}]}, "unknown name of"),
        ({"team": "bees", "highest_priority": 6}, "quotas, which stay"),
    ],
    ids=str,
)
def test_bad_policies(bees, row, told):
    """Faults of policies and of their quotas are told, and nothing changes."""
    add_quota(bees, from_priority=7)
    assert told in " ".join(plan_policies([row]).faults)


def test_quotas_are_replaced_as_a_whole(bees):
    """Quotas that are given replace all; where none are given they stay."""
    kept = add_quota(bees)
    carry_out(plan_policies([{"team": "Bees", "share_weight": 2}]))
    assert Quota.objects.get() == kept
    carry_out(plan_policies([{"team": "Bees", "quotas": []}]))
    assert not Quota.objects.exists()


# The pages


def test_export_pages(admin_page, ant, bees):
    """Lists are taken away as files."""
    add_quota(bees)
    answer = admin_page.get(reverse("admin:fleet_node_export_yaml"))
    assert answer["Content-Disposition"] == 'attachment; filename="nodes.yaml"'
    assert yaml.safe_load(answer.content)[0]["name"] == "ant"
    text = admin_page.get(reverse("admin:fleet_prioritypolicy_export_csv")).content.decode()
    assert json.dumps("requests").replace('"', '""') in text


def test_import_page(admin_page, ant):
    """The first answer tells what will change; the second changes it, with a line in the log for each row."""
    answer = admin_page.post(reverse(IMPORT), {"file": SimpleUploadedFile("n.yaml", BEE.encode()), "form": "csv"})
    assert "1 new, 0 changed, 0 stay as they are" in answer.content.decode()
    assert not Node.objects.filter(name="bee").exists()
    fields = {"text": BEE, "form": "yaml", "mark": answer.context["plan"].mark}
    answer = admin_page.post(reverse(IMPORT), fields, follow=True)
    assert "Imported: 1 new, 0 changed" in answer.content.decode()
    assert Node.objects.get(name="bee").labels == {"rack": "a1"}
    assert "slots: 2" in LogEntry.objects.get().change_message


def test_what_was_looked_at_is_what_is_done(admin_page, ant):
    """If something has changed since the look, the page shows it anew and changes nothing."""
    text = "name,slots\nant,8\n"
    mark = admin_page.post(reverse(IMPORT), {"text": text, "form": "csv"}).context["plan"].mark
    Node.objects.update(slots=5)
    answer = admin_page.post(reverse(IMPORT), {"text": text, "form": "csv", "mark": mark})
    assert "slots: 5 → 8" in answer.content.decode()
    assert Node.objects.get().slots == 5


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"text": "", "form": "csv"}, "Choose a file"),
        ({"text": "name: [", "form": "yaml"}, "Nothing was imported: this is not YAML"),
        ({"text": "name,url\nbee,ftp://x\n", "form": "csv"}, "Nothing can be imported"),
        ({"file": SimpleUploadedFile("n.csv", b"\xff\xfe"), "form": "csv"}, "no text in UTF-8"),
    ],
    ids=range(4),
)
def test_bad_texts_on_the_page(admin_page, fields, told):
    """The page says what is wrong with a text."""
    assert told in admin_page.post(reverse(IMPORT), fields).content.decode()


# The commands


def test_commands(ant, tmp_path):
    """The commands write and read the same texts; without --apply nothing changes."""
    out = io.StringIO()
    call_command("export_fleet", "nodes", "--format", "csv", stdout=out)
    file = tmp_path / "nodes.csv"
    file.write_text(out.getvalue().replace("ant,http://ant:11434", "ant,http://ant:11435"))
    call_command("import_fleet", "nodes", str(file), stdout=out)
    assert Node.objects.get().url == "http://ant:11434"
    call_command("import_fleet", "nodes", str(file), "--apply", stdout=out)
    assert Node.objects.get().url == "http://ant:11435"
    assert "url: http://ant:11434 → http://ant:11435" in out.getvalue()


@pytest.mark.parametrize(("text", "told"), [("name,url\nbee,ftp://x\n", "row 1: url"), ("", "no rows")])
def test_commands_tell_faults(db, tmp_path, text, told):
    """A file that cannot be imported ends the command with what is wrong."""
    file = tmp_path / "nodes.csv"
    file.write_text(text)
    with pytest.raises(CommandError, match=told):
        call_command("import_fleet", "nodes", str(file), "--apply")
    with pytest.raises(CommandError, match="nothing was imported"):
        call_command("import_fleet", "nodes", str(tmp_path / "none.csv"))
