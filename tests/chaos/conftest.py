"""HAProxy, where it is installed."""

import shutil

import pytest

from tests.conftest import missing


@pytest.fixture(scope="session")
def haproxy() -> str:
    """Path of HAProxy, the TCP balancer in front of several gateways."""
    found = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin")
    if not found:
        missing("HAProxy", "there is no haproxy on the path")
    return str(found)
