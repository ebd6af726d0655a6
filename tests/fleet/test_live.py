"""Views of the gateway are made when somebody asks, wherever that is."""

import asyncio

import pytest

from fleet import live


class View:
    pass


@pytest.fixture
async def made():
    views = []

    def make():
        views.append(View())
        return views[-1]

    live.offer(make)
    yield views
    live.offer(None)


async def test_nothing_is_made_while_nobody_asks(made):
    """An offer alone costs nothing."""
    await asyncio.sleep(0)
    assert made == []


async def test_a_view_is_handed_out_again_while_it_is_fresh(made):
    """Two who ask at once get one view."""
    assert live.view() is live.view()
    assert len(made) == 1


async def test_a_thread_gets_a_view_made_on_the_loop(made):
    """A page that Django serves in a thread asks, too."""
    assert await asyncio.to_thread(live.view) is made[0]


async def test_a_fault_is_told_to_the_thread_that_asked(made):
    """A view that cannot be made is an error where it was asked for, not silence."""
    live.offer(lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        await asyncio.to_thread(live.view)


def test_a_loop_that_is_gone_leaves_the_view_as_it_is():
    """After an abrupt end there is no view, and nobody waits for one."""

    async def start():
        live.offer(View)

    asyncio.run(start())
    try:
        assert live.view() is None
    finally:
        live._offer = None


async def test_an_old_view_is_made_anew(made, monkeypatch):
    """Half a second later the next view is another one."""
    first = live.view()
    monkeypatch.setattr(live, "FRESH_S", -1.0)
    assert live.view() is not first
