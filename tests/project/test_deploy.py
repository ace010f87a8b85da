"""What lies in deploy/: valid by its schema, in agreement with the settings, and explained."""

import configparser
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import typer
import yaml

from memory_server.__main__ import application
from memory_server.security.setup import refuse_strangers
from memory_server.settings import Settings

KUBERNETES = "1.31"
DROP_IN = "deploy/memory-server.service.d/network.conf"


@pytest.fixture(scope="module")
def rules(root: Path) -> list[dict[str, Any]]:
    """Every alert rule."""
    (group,) = yaml.safe_load((root / "deploy/alerts.yaml").read_text())["groups"]
    return list(group["rules"])


@pytest.fixture(scope="module")
def dashboard(root: Path) -> dict[str, Any]:
    """The dashboard, parsed."""
    return dict(json.loads((root / "deploy/dashboard.json").read_text()))


@pytest.fixture(scope="module")
def manifests(root: Path) -> dict[str, Any]:
    """Kind -> manifest."""
    return {one["kind"]: one for one in yaml.safe_load_all((root / "deploy/kubernetes.yaml").read_text())}


@pytest.fixture(scope="module")
def unit(root: Path) -> configparser.ConfigParser:
    """The systemd unit."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(root / "deploy/memory-server.service")
    return parser


def options_of_serve() -> set[str]:
    """Every option that `memory-server serve` has."""
    command: Any = typer.main.get_command(application())
    parameters = command.commands["serve"].params
    return {name for option in parameters for name in (*option.opts, *option.secondary_opts)}


def test_every_alert_rule_is_whole_and_named_once(rules: list[dict[str, Any]]) -> None:
    assert len({rule["alert"] for rule in rules}) == len(rules)
    for rule in rules:
        assert rule.keys() - {"for"} == {"alert", "expr", "labels", "annotations"}
        assert rule["labels"].keys() == {"severity"} and rule["labels"]["severity"] in {"critical", "warning"}
        assert rule["annotations"]["summary"].endswith(".")
        assert re.fullmatch(r"\d+[smhd]", rule.get("for", "0s"))
        assert rule["expr"].count("(") == rule["expr"].count(")")


def test_every_alert_is_explained_and_none_that_is_not_there(root: Path, rules: list[dict[str, Any]]) -> None:
    text = (root / "docs/operations.md").read_text()
    explained = re.findall(r"^\| `(\w+)` \| (.{20,}) \| (.{20,}) \|$", text, re.MULTILINE)

    assert sorted(name for name, _, _ in explained) == sorted(rule["alert"] for rule in rules)


def test_every_panel_of_the_dashboard_has_its_place_and_its_queries(dashboard: dict[str, Any]) -> None:
    panels = dashboard["panels"]
    places = {(x, y) for one in panels for x, y in squares(one["gridPos"])}

    assert dashboard["uid"] and dashboard["schemaVersion"] >= 39
    assert [one["id"] for one in panels] == list(range(1, len(panels) + 1))
    assert len(places) == sum(one["gridPos"]["w"] * one["gridPos"]["h"] for one in panels), "panels overlap"
    for panel in panels:
        if panel["type"] != "row":
            assert panel["title"] and panel["fieldConfig"]["defaults"]["unit"]
            assert [target["refId"] for target in panel["targets"]] == list("ABCD")[: len(panel["targets"])]
            assert all('{instance=~"$instance"' in target["expr"] for target in panel["targets"])


def squares(place: dict[str, int]) -> list[tuple[int, int]]:
    """What a panel covers of the grid, which is 24 wide."""
    assert place["x"] + place["w"] <= 24
    return [(place["x"] + dx, place["y"] + dy) for dx in range(place["w"]) for dy in range(place["h"])]


def test_the_manifests_are_valid(manifests: dict[str, Any]) -> None:
    assert manifests.keys() == {"Service", "StatefulSet", "NetworkPolicy"}
    for manifest in manifests.values():
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)


def test_the_pod_has_one_replica_without_rights_and_probes_that_exist(manifests: dict[str, Any]) -> None:
    workload = manifests["StatefulSet"]["spec"]
    pod = workload["template"]["spec"]
    (container,) = pod["containers"]
    chosen = dict(argument.removeprefix("--").partition("=")[::2] for argument in container["args"])
    probes = [container[f"{name}Probe"]["exec"]["command"] for name in ("startup", "readiness", "liveness")]

    assert workload["replicas"] == 1
    assert {f"--{name}" for name in chosen} <= options_of_serve()
    refuse_strangers(Settings(**{name.replace("-", "_"): value or True for name, value in chosen.items()}))
    healthy = ["memory-server", "health", "--target", f"unix:{chosen['unix-socket']}"]
    assert probes == [healthy] * 3, "without --learning, which restarts do not mend"
    assert not pod["enableServiceLinks"], "they set variables that the server would take for settings"
    assert pod["terminationGracePeriodSeconds"] > float(chosen["grace-seconds"])
    assert pod["securityContext"]["runAsNonRoot"] and container["securityContext"]["readOnlyRootFilesystem"]
    mounts = [mount["mountPath"] for mount in container["volumeMounts"]]
    places = ("data-dir", "unix-socket", "audit-log", "tls-cert", "tls-key", "tokens")
    assert all(any(chosen[place].startswith(f"{mount}/") for mount in mounts) for place in places)
    assert "insecure-expose" not in chosen
    claims = {mount["mountPath"] for mount in container["volumeMounts"] if mount["name"] in claimed(workload)}
    disks = [f"/{chosen[place].split('/')[1]}" for place in ("data-dir", "audit-log")]
    assert sorted(disks) == sorted(claims), "a disk full of memories must leave room to note who samples them"
    secrets = [volume["secret"] for volume in pod["volumes"] if "secret" in volume]
    assert {secret["defaultMode"] for secret in secrets} == {0o440}, "more is refused, less is what fsGroup adds to"
    held = int(chosen["ingest-budget-bytes"]) + int(chosen["expert-cache-bytes"])
    assert held < int(container["resources"]["requests"]["memory"].removesuffix("Gi")) << 30


def claimed(workload: dict[str, Any]) -> set[str]:
    """Names of the volumes that outlive a pod."""
    return {claim["metadata"]["name"] for claim in workload["volumeClaimTemplates"]}


def test_the_commands_beside_the_manifests_make_all_in_one_namespace(root: Path, manifests: dict[str, Any]) -> None:
    commands = re.findall(r"^# +(kubectl .*)$", (root / "deploy/kubernetes.yaml").read_text(), re.MULTILINE)
    made = {match[1] for line in commands if (match := re.search(r"secret \w+ -n NAMESPACE ([\w-]+)", line))}
    pod = manifests["StatefulSet"]["spec"]["template"]["spec"]

    assert all(" -n NAMESPACE " in line for line in commands)
    assert made == {volume["secret"]["secretName"] for volume in pod["volumes"] if "secret" in volume}


def test_the_watchdog_ends_a_worker_before_the_kernel_ends_the_pod(manifests: dict[str, Any]) -> None:
    pod = manifests["StatefulSet"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    chosen = dict(argument.removeprefix("--").partition("=")[::2] for argument in container["args"])
    workers = int(chosen["learners"]) * int(chosen["worker-memory-bytes"])
    server = int(chosen["ingest-budget-bytes"]) + int(chosen["expert-cache-bytes"]) + (512 << 20)
    disks = [volume["emptyDir"] for volume in pod["volumes"] if "emptyDir" in volume]
    files = sum(int(disk["sizeLimit"].removesuffix("Mi")) << 20 for disk in disks if disk["medium"] == "Memory")

    assert workers + server + files < int(container["resources"]["limits"]["memory"].removesuffix("Gi")) << 30


def test_the_unit_is_hardened_and_waits_longer_than_the_grace(unit: configparser.ConfigParser) -> None:
    service = unit["Service"]
    environment = dict(pair.split("=") for pair in service["Environment"].split())
    grace = environment["MEMORY_SERVER_GRACE_SECONDS"]

    expected = {
        "DynamicUser": "yes",
        "OOMPolicy": "continue",
        "ProtectSystem": "strict",
        "NoNewPrivileges": "yes",
        "MemorySwapMax": "0",
        "LimitCORE": "0",
        "UMask": "0077",
        "KillSignal": "SIGTERM",
        "ExecReload": "/bin/kill -HUP $MAINPID",
        "StateDirectoryMode": "0700",
        "CapabilityBoundingSet": "",
    }
    assert {name: service[name] for name in expected} == expected
    assert float(service["TimeoutStopSec"]) > float(grace)
    assert {name.removeprefix("MEMORY_SERVER_").lower() for name in environment} - {"pythonunbuffered"} <= set(
        Settings.model_fields
    )
    assert {word for word in service["ExecStart"].split() if word.startswith("--")} <= options_of_serve()


def test_the_units_user_gets_secrets_as_copies_and_what_changes_in_a_directory_of_its_own(
    root: Path, unit: configparser.ConfigParser
) -> None:
    lines = (root / DROP_IN).read_text().splitlines()
    pairs = [pair for line in lines if line.startswith("Environment=") for pair in line.split("=", 1)[1].split()]
    chosen = {name.removeprefix("MEMORY_SERVER_").lower(): value for name, value in (pair.split("=") for pair in pairs)}
    copies = {line.split("=")[1].split(":")[0] for line in lines if line.startswith("LoadCredential=")}
    own = [f"%S/{name}" for name in unit["Service"]["StateDirectory"].split()]

    settings = Settings(**chosen)  # type: ignore[arg-type]
    refuse_strangers(settings)
    assert settings.exposed
    copied = {str(path) for path in (settings.tls_cert, settings.tls_key, settings.encryption_key_file)}
    assert copied == {f"%d/{name}" for name in copies}
    data = re.search(r"--data-dir (\S+)", unit["Service"]["ExecStart"])
    assert data is not None and data[1] in own
    own.remove(data[1])  # or a backup that is restored would bring revoked tokens back
    assert {str(path and path.parent) for path in (settings.tokens, settings.audit_log)} == {*own}


def test_the_commands_that_install_the_unit_make_what_it_starts_and_leave_a_token_that_is_good(
    root: Path, unit: configparser.ConfigParser
) -> None:
    blocks = re.findall(r"^```\n(.*?)^```", (root / "docs/operations.md").read_text(), re.MULTILINE | re.DOTALL)
    (block,) = (each for each in blocks if "systemctl enable" in each)
    program = Path(unit["Service"]["ExecStart"].split()[0])

    assert f"python3 -m venv {program.parent.parent}\n" in block
    assert "token add" in block and "token revoke" not in block


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
@pytest.mark.parametrize("also", [[], [DROP_IN]], ids=["loopback", "network"])
def test_systemd_accepts_the_unit(root: Path, tmp_path: Path, also: list[str]) -> None:
    text = (root / "deploy/memory-server.service").read_text()
    installed = tmp_path / "memory-server.service"
    installed.write_text(re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", text, flags=re.MULTILINE))
    for each in also:
        folder = tmp_path / "memory-server.service.d"
        folder.mkdir()
        shutil.copy(root / each, folder)
    done = subprocess.run(["systemd-analyze", "verify", installed], check=False, capture_output=True, text=True)

    assert (done.returncode, done.stderr) == (0, "")
