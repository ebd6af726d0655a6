"""Quotas: what the database and validation refuse, and how operators set them."""

from datetime import timedelta

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from fleet.admin.quotas import number
from fleet.models import PriorityPolicy, Quota, QuotaLevel, Team
from fleet.selectors.usage import taken, with_used
from fleet.services import quotas
from tests.fleet.conftest import add_quota, add_usage_day
from tests.fleet.test_admin import page

pytestmark = pytest.mark.django_db


def refused(**columns):
    with pytest.raises(IntegrityError), transaction.atomic():
        Quota.objects.create(**{"amount": 1} | columns)


@pytest.mark.parametrize(
    "columns",
    [
        {"amount": 0},
        {"amount": -1},
        {"measure": "bytes"},
        {"window": "week"},
        {"breach": "warn"},
        {"from_priority": 1},
        {"from_priority": 11},
    ],
    ids=str,
)
def test_impossible_quotas(bees, columns):
    """The database refuses a quota that cannot be."""
    refused(policy=PriorityPolicy.objects.create(team=bees), **columns)


def test_one_quota_of_a_kind(bees):
    """A team has one quota of each measure and window, and one budget of each priority beside it."""
    policy = add_quota(bees).policy
    add_quota(bees, from_priority=8)
    add_quota(bees, from_priority=9)
    refused(policy=policy)
    refused(policy=policy, from_priority=8)


@pytest.mark.parametrize(
    ("columns", "field", "told"),
    [
        ({"amount": 0}, "amount", "above 0"),
        ({"amount": float("nan")}, "amount", "Enter a number"),
        ({"amount": 0.5}, "amount", "at least 1"),
        ({"from_priority": 1}, "from_priority", "leave this empty"),
        ({"from_priority": 11}, "from_priority", "between 1 and 10"),
        ({"from_priority": 9}, "from_priority", "never run above priority 8"),
        ({"measure": "bytes"}, "measure", "not a valid choice"),
    ],
    ids=str,
)
def test_validation_says_what_is_wrong(bees, columns, field, told):
    """Each fault of a quota stands beside its field, in words."""
    policy = PriorityPolicy.objects.create(team=bees, highest_priority=8)
    with pytest.raises(ValidationError) as caught:
        Quota(policy=policy, **{"amount": 5, "measure": "tokens"} | columns).full_clean()
    assert told in " ".join(caught.value.message_dict[field])


def test_half_a_gpu_second():
    """GPU-seconds may be a part of one."""
    Quota(policy=PriorityPolicy(), amount=0.5, measure="gpu_seconds").full_clean(
        exclude=("policy",), validate_constraints=False
    )


def test_a_quota_in_words(bees):
    """A quota reads as what it is."""
    assert str(add_quota(bees, amount=1e6, measure="tokens", window="month")) == "1,000,000 tokens each month"
    assert str(add_quota(bees, measure="gpu_seconds", from_priority=8)) == "100 GPU-seconds each day from priority 8"


def test_replacing_keeps_what_stays(bees):
    """Of the quotas that a policy is given, those of the same kind are changed, so that their levels stay."""
    minute, day = add_quota(bees, window="minute"), add_quota(bees)
    QuotaLevel.objects.create(quota=minute, level=3, at=timezone.now())
    quotas.replace(minute.policy, [Quota(amount=7, window="minute"), Quota(amount=1, window="month")])
    assert set(Quota.objects.values_list("window", "amount")) == {("minute", 7), ("month", 1)}
    assert QuotaLevel.objects.get().quota == minute
    assert not Quota.objects.filter(pk=day.pk).exists()


# What is taken


@pytest.fixture
def month():
    """A day in the middle of a month, after a day of that month and one of the month before."""
    today = timezone.now().date().replace(day=15)
    return today, today.replace(day=1), today.replace(day=1) - timedelta(days=1)


def used(quota, today):
    return with_used(Quota.objects.filter(pk=quota.pk), today).get()


@pytest.mark.parametrize(
    ("measure", "window", "from_priority", "expected"),
    [
        ("requests", "day", None, 3),
        ("requests", "month", None, 7),
        ("tokens", "day", None, 330),
        ("gpu_seconds", "month", None, 1.5),
        ("requests", "day", 6, 2),
        ("tokens", "month", 6, 220),
        ("gpu_seconds", "day", 9, 0),
    ],
)
def test_what_is_used(bees, cats, month, measure, window, from_priority, expected):
    """Days and months are added up in UTC, a budget counts its priority and those above, other teams do not count."""
    today, first, before = month
    add_usage_day(bees, today, priority=5, requests=1, tokens_in=100, tokens_out=10, gpu_seconds=0.5)
    add_usage_day(bees, today, priority=8, requests=2, tokens_in=200, tokens_out=20, gpu_seconds=1)
    add_usage_day(bees, first, priority=5, requests=4)
    add_usage_day(bees, before, priority=8, requests=100)
    add_usage_day(cats, today, priority=8, requests=100)
    quota = add_quota(bees, measure=measure, window=window, from_priority=from_priority)
    assert used(quota, today).used == expected


def test_what_is_taken_of_a_minute(bees):
    """What was taken of a quota of a minute refills continuously, down to nothing."""
    now = timezone.now()
    quota = add_quota(bees, amount=60, window="minute")
    assert taken(used(quota, now.date()), now) == 0
    QuotaLevel.objects.create(quota=quota, level=30, at=now - timedelta(seconds=10))
    assert taken(used(quota, now.date()), now) == 20
    assert taken(used(quota, now.date()), now + timedelta(minutes=1)) == 0


@pytest.mark.parametrize(
    ("value", "told"), [(0.0, "0"), (2.0, "2"), (2.25, "2.2"), (1234.5, "1,234"), (1e6, "1,000,000")]
)
def test_numbers_for_people(value, told):
    """Numbers are shown with separators, and with decimals only where they matter."""
    assert number(value) == told


# The pages


def rows(prefix, *forms, initial=0):
    """The fields of an inline form set."""
    fields = {f"{prefix}-TOTAL_FORMS": len(forms), f"{prefix}-INITIAL_FORMS": initial}
    for place, form in enumerate(forms):
        fields |= {f"{prefix}-{place}-{name}": value for name, value in form.items()}
    return fields


def quota_form(**columns):
    return {
        "id": "",
        "policy": "",
        "amount": 10,
        "measure": "requests",
        "window": "day",
        "breach": "refuse",
        "from_priority": "",
    } | columns


def policy_form(**columns):
    return {
        "default_priority": 5,
        "highest_priority": 8,
        "batch_priority": 1,
        "share_weight": 1,
        "max_concurrent": "",
        "concurrent_breach": "wait",
        "on_break": "continue",
    } | columns


def test_adding_a_policy_with_quotas(admin_page, bees):
    """A policy and its quotas are added on one page."""
    form = policy_form(team=bees.pk) | rows("quotas", quota_form(), quota_form(from_priority=8, breach="demote"))
    admin_page.post(page(PriorityPolicy, "add"), form)
    assert set(Quota.objects.values_list("policy__team__name", "breach", "from_priority")) == {
        ("Bees", "refuse", None),
        ("Bees", "demote", 8),
    }


@pytest.mark.parametrize(
    ("forms", "told"),
    [
        ([quota_form(), quota_form()], b"has this quota already"),
        ([quota_form(from_priority=9)], b"never run above priority 8"),
        ([quota_form(from_priority=1)], b"leave this empty"),
        ([quota_form(amount=-1)], b"above 0"),
    ],
    ids=["twice", "above the highest", "of everything", "negative"],
)
def test_bad_quotas_are_told_on_the_page(admin_page, bees, forms, told):
    """Faults of quotas stand on the policy's page, and nothing is saved."""
    answer = admin_page.post(page(PriorityPolicy, "add"), policy_form(team=bees.pk) | rows("quotas", *forms))
    assert told in answer.content
    assert not PriorityPolicy.objects.exists()


def test_lowering_the_highest_priority_is_checked_with_what_is_given(admin_page, bees):
    """A budget is compared with the highest priority of the same form, not with the stored one."""
    quota = add_quota(bees, from_priority=9)
    kept = quota_form(id=quota.pk, policy=quota.policy_id, from_priority=9)
    form = policy_form(team=bees.pk, highest_priority=8)
    address = page(PriorityPolicy, "change", quota.policy_id)
    assert b"never run above" in admin_page.post(address, form | rows("quotas", kept, initial=1)).content
    admin_page.post(address, form | rows("quotas", kept | {"from_priority": 7}, initial=1))
    assert Quota.objects.get().from_priority == 7


def test_quotas_on_the_page_of_a_team(admin_page):
    """A team, its policy and its quotas are added on one page."""
    form = {"name": "Bees", "description": ""} | rows("keys") | rows("keys-2")
    form |= rows("policy", policy_form(id="", team=""))
    form |= rows("policy-0-quotas", quota_form(amount=3))
    admin_page.post(page(Team, "add"), form)
    assert Quota.objects.get(amount=3).policy.team.name == "Bees"


def test_a_policy_of_defaults(admin_page):
    """A policy that is added as it comes is added, with its quotas."""
    form = {"name": "Bees", "description": ""} | rows("keys") | rows("keys-2")
    form |= rows("policy", policy_form(id="", team="", highest_priority=10))
    admin_page.post(page(Team, "add"), form | rows("policy-0-quotas", quota_form()))
    assert Quota.objects.get().policy.highest_priority == 10


def test_a_bad_quota_on_the_page_of_a_team(admin_page):
    """Faults of quotas stand on the team's page too, and nothing is saved."""
    form = (
        {"name": "Bees", "description": ""}
        | rows("keys")
        | rows("keys-2")
        | rows("policy", policy_form(id="", team=""))
    )
    answer = admin_page.post(page(Team, "add"), form | rows("policy-0-quotas", quota_form(from_priority=9)))
    assert b"never run above priority 8" in answer.content
    assert b"Please correct the error" in answer.content
    assert not Team.objects.exists()


def test_what_is_used_stands_beside_the_quota(admin_page, bees):
    """The pages of policy and team show what is used of each quota today and this month."""
    quota = add_quota(bees, amount=50)
    add_quota(bees, amount=2000, measure="tokens", window="month")
    add_usage_day(bees, requests=40, tokens_in=1000, tokens_out=500)
    for address in (page(PriorityPolicy, "change", quota.policy_id), page(Team, "change", bees.pk)):
        text = admin_page.get(address).content.decode()
        assert "40 of 50" in text
        assert "1,500 of 2,000" in text


@pytest.mark.parametrize(
    ("model", "subject"), [(PriorityPolicy, lambda quota: quota.policy_id), (Team, lambda quota: quota.policy.team_id)]
)
def test_a_page_does_not_grow_with_its_quotas(admin_page, bees, model, subject):
    """A page with six quotas costs as many queries as one with two."""
    counts = []
    for windows in (("day",), ("minute", "month")):
        for window in windows:
            quota = add_quota(bees, window=window)
            add_quota(bees, window=window, measure="tokens")
        address = page(model, "change", subject(quota))
        admin_page.get(address)
        with CaptureQueriesContext(connection) as queries:
            admin_page.get(address)
        counts.append(len(queries))
    assert counts[0] == counts[1]


# REST


def test_quotas_over_rest(api, bees):
    """A policy is created with its quotas, and answers with what is used of them."""
    add_usage_day(bees, requests=4)
    made = api.post("/api/fleet/policies", {"team": "Bees", "quotas": [{"amount": 10}]}, format="json")
    assert made.status_code == 201
    [quota] = made.json()["quotas"]
    assert (quota["measure"], quota["window"], quota["breach"], quota["used"]) == ("requests", "day", "refuse", 4)


def test_quotas_are_replaced_as_a_whole(api, bees):
    """The quotas given are those that the policy has then; where none are given they stay."""
    quota = add_quota(bees)
    path = f"/api/fleet/policies/{quota.policy_id}"
    assert len(api.patch(path, {"share_weight": 2}, format="json").json()["quotas"]) == 1
    told = [{"amount": 5, "measure": "tokens"}, {"amount": 7, "window": "day"}]
    changed = api.patch(path, {"quotas": told}, format="json").json()["quotas"]
    assert {row["amount"] for row in changed} == {5, 7}
    assert Quota.objects.get(amount=7).pk == quota.pk
    assert api.patch(path, {"quotas": []}, format="json").json()["quotas"] == []


@pytest.mark.parametrize(
    ("columns", "place"),
    [
        ({"quotas": [{"amount": 1}, {"amount": 0}]}, ("quotas", 1, "amount")),
        ({"quotas": [{"amount": 1}, {"amount": 2}]}, ("quotas", 1, "non_field_errors")),
        ({"quotas": [{"amount": 1, "from_priority": 9}], "highest_priority": 8}, ("quotas", 0, "from_priority")),
        ({"highest_priority": 8}, ("highest_priority",)),
        ({"concurrent_breach": "refuse"}, ("concurrent_breach",)),
    ],
    ids=str,
)
def test_bad_policies_over_rest(api, bees, columns, place):
    """A fault is 400, names its quota and field, and nothing is changed."""
    quota = add_quota(bees, from_priority=9)
    answer = api.patch(f"/api/fleet/policies/{quota.policy_id}", columns, format="json")
    assert answer.status_code == 400
    told = answer.json()
    for step in place:
        told = told[step]
    assert told
    quota.refresh_from_db()
    assert (quota.amount, quota.policy.highest_priority) == (100, 10)
