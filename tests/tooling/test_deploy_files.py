"""What is shipped to run SOLLOL elsewhere passes the checkers of its formats."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from sollol_site.environment import Environment
from tests.tooling.stack import ROOT

DEPLOY = ROOT / "deploy"
DOCKERFILE = DEPLOY / "Dockerfile"
COMPOSE = DEPLOY / "compose.yaml"
KUBERNETES = DEPLOY / "kubernetes" / "sollol.yaml"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))
YAMLLINT = "{extends: relaxed, rules: {line-length: {max: 160}}}"
TOOLS = Path(sys.executable).parent


def checked(*words: object) -> str:
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def manifests() -> dict[str, dict]:
    return {f"{one['kind']}/{one['metadata']['name']}": one for one in yaml.safe_load_all(KUBERNETES.read_text())}


def pod(name: str) -> dict:
    return manifests()[f"Deployment/{name}"]["spec"]["template"]["spec"]


@pytest.mark.parametrize(
    "words",
    [
        (TOOLS / "hadolint", DOCKERFILE),
        (TOOLS / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", COMPOSE),
        (TOOLS / "kubernetes-validate", "--strict", KUBERNETES),
        (TOOLS / "yamllint", "--strict", "-d", YAMLLINT, DEPLOY),
    ],
    ids=["hadolint", "compose-spec", "kubernetes-validate", "yamllint"],
)
def test_checkers_find_no_fault(words):
    """The linter or schema of each format accepts the file."""
    checked(*words)


def test_systemd_accepts_the_units(tmp_path):
    """Where systemd is: the units are sound, and exposed to little."""
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed (Debian: systemd)")
    for unit in UNITS:
        # The program is checked to be there, which it is not on this machine.
        (tmp_path / unit.name).write_text(unit.read_text().replace("/opt/sollol/.venv/bin/python", "/usr/bin/env"))
    gateway, worker = tmp_path / "sollol-gateway@8000.service", tmp_path / "sollol-worker.service"
    (tmp_path / "sollol-gateway@.service").rename(gateway)
    for unit in (gateway, worker):
        checked(analyze, "verify", unit)
        checked(analyze, "security", "--offline=true", "--threshold=20", unit)


def test_settings_that_are_set_exist():
    """No file sets a SOLLOL_ variable that nobody reads."""
    known = {name.upper() for name in Environment.model_fields}
    for file in (DOCKERFILE, COMPOSE, KUBERNETES, *(DEPLOY / "systemd").iterdir()):
        names = set(re.findall(r"\b(SOLLOL_[A-Z_]+)[=:]", file.read_text()))
        assert names <= known, file


def test_files_that_are_mounted_exist():
    """Each file that the compose file mounts from here is here."""
    services = yaml.safe_load(COMPOSE.read_text())["services"]
    mounts = [mount for service in services.values() for mount in service.get("volumes", [])]
    own = [mount.split(":")[0] for mount in mounts if mount.startswith("./")]
    assert len(own) >= 5
    assert [name for name in own if not (DEPLOY / name).exists()] == []


def test_stops_are_given_time():
    """Whatever stops the gateway waits longer than the gateway may take: drain, streams, last records."""
    gateway = yaml.safe_load(COMPOSE.read_text())["services"]["gateway"]
    settings = gateway["environment"]
    assert (
        int(gateway["stop_grace_period"][:-1])
        > int(settings["SOLLOL_DRAIN_S"]) + int(settings["SOLLOL_SHUTDOWN_S"]) + 10
    )
    data = manifests()["ConfigMap/sollol"]["data"]
    grace = pod("sollol-gateway")["terminationGracePeriodSeconds"]
    assert grace > int(data["SOLLOL_DRAIN_S"]) + int(data["SOLLOL_SHUTDOWN_S"]) + 10


def test_containers_may_do_little():
    """Nothing of ours runs as root, gets privileges or writes to its image."""
    for name in ("sollol-gateway", "sollol-worker"):
        assert pod(name)["securityContext"]["runAsNonRoot"] is True
        for container in pod(name)["containers"] + pod(name).get("initContainers", []):
            held = container["securityContext"]
            assert (held["readOnlyRootFilesystem"], held["allowPrivilegeEscalation"]) == (True, False)
            assert held["capabilities"]["drop"] == ["ALL"]
    services = yaml.safe_load(COMPOSE.read_text())["services"]
    for name in ("prepare", "gateway", "worker"):
        assert services[name]["read_only"] is True
        assert services[name]["cap_drop"] == ["ALL"]
    assert re.search(r"^USER 10001:10001$", DOCKERFILE.read_text(), re.MULTILINE)


def test_one_gateway_is_run():
    """Gateways do not share slots yet: no file runs a second one that stays."""
    assert manifests()["Deployment/sollol-gateway"]["spec"]["replicas"] == 1
    assert not [name for name in manifests() if name.startswith("HorizontalPodAutoscaler")]
