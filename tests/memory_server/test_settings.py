import os

import pytest
from typer.testing import CliRunner

from memory_server import __main__ as entry
from memory_server import settings
from memory_server.settings import Settings, load


@pytest.mark.parametrize(
    ("cores", "cuda", "workers", "trainers"),
    [(1, False, 1, 1), (2, False, 2, 1), (5, False, 2, 2), (64, False, 2, 8), (8, True, 1, 7), (64, True, 1, 8)],
)
def test_those_that_learn_share_all_cores_but_one(monkeypatch, cores, cuda, workers, trainers):
    monkeypatch.setattr(settings, "_cores", lambda: cores)
    chosen = Settings()
    assert (chosen.workers(cuda), chosen.trainers(cuda)) == (workers, trainers)


def test_an_operator_may_choose_both(monkeypatch):
    monkeypatch.setattr(settings, "_cores", lambda: 8)
    assert Settings(learners=1).trainers(cuda=False) == 7
    assert Settings(learners=3).trainers(cuda=False) == 2
    assert Settings(learners=3, training_threads=5).trainers(cuda=False) == 5


GIB = 1 << 30


@pytest.mark.parametrize("chosen", [{}, {"learners": 5}, {"ingest_budget_bytes": 5 * GIB, "expert_cache_bytes": GIB}])
@pytest.mark.parametrize("cuda", [False, True])
@pytest.mark.parametrize("memory", [16 * GIB, 64 * GIB, 1000 * GIB + 7])
def test_what_the_workers_may_fill_together_is_what_the_server_leaves(monkeypatch, memory, cuda, chosen):
    monkeypatch.setattr(settings, "_memory_bytes", lambda: memory)
    monkeypatch.setattr(settings, "_cores", lambda: 8)
    found = Settings(**chosen)
    server = found.ingest_budget_bytes + found.expert_cache_bytes + GIB // 2
    together = server + found.workers(cuda) * found.worker_bytes(cuda)
    assert memory - found.workers(cuda) < together <= memory
    assert found.missing_bytes(cuda) == 0


@pytest.mark.parametrize("memory", [GIB, 4 * GIB, 5 * GIB])
def test_workers_that_are_left_too_little_get_the_least_and_what_is_missing_is_told(monkeypatch, memory):
    monkeypatch.setattr(settings, "_memory_bytes", lambda: memory)
    monkeypatch.setattr(settings, "_cores", lambda: 8)
    found = Settings()
    assert found.worker_bytes(cuda=False) == GIB
    assert found.missing_bytes(cuda=False) == 5.5 * GIB - memory
    assert Settings(learners=1, ingest_budget_bytes=1, expert_cache_bytes=1).missing_bytes(False) == max(
        0, GIB // 2 + 2 + GIB - memory
    )


def test_a_bound_that_the_operator_chose_stays_and_is_counted(monkeypatch):
    monkeypatch.setattr(settings, "_memory_bytes", lambda: 8 * GIB)
    chosen = Settings(worker_memory_bytes=3 * GIB, learners=2)
    assert chosen.worker_bytes(cuda=False) == 3 * GIB
    assert chosen.missing_bytes(cuda=False) == 1.5 * GIB


@pytest.mark.parametrize(
    ("own", "limits", "least"),
    [
        ("0::/a.slice/b.service\n", {"a.slice/b.service": "3", "a.slice": "max", "": "9"}, 3),
        ("1:memory:/x\n0::/a.slice/b.service\n", {"a.slice/b.service": "max", "a.slice": "2"}, 2),
        ("0::/\n", {"": "4"}, 4),
        ("0::/kubepods/x\n", {"": "4"}, 4),
        ("0::/a.slice\n", {"a.slice": "max"}, None),
        ("4:memory:/x\n", {}, None),
    ],
)
def test_the_memory_is_that_of_the_narrowest_control_group_around_the_server(monkeypatch, tmp_path, own, limits, least):
    for group, limit in limits.items():
        (tmp_path / group).mkdir(parents=True, exist_ok=True)
        (tmp_path / group / "memory.max").write_text(limit + "\n")
    (tmp_path / "cgroup").write_text(own)
    monkeypatch.setattr(settings, "_CONTROL_GROUPS", tmp_path)
    monkeypatch.setattr(settings, "_OWN_CONTROL_GROUP", tmp_path / "cgroup")
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert settings._memory_bytes() == (least or machine)


@pytest.fixture
def config(tmp_path):
    return tmp_path / "server.toml"


def test_what_is_given_wins_over_the_environment_and_that_over_the_file(config, monkeypatch):
    config.write_text("port = 1\nmax_queue = 2\nlog_level = 'debug'\ntls_cert = 'cert.pem'\n")
    monkeypatch.setenv("MEMORY_SERVER_MAX_QUEUE", "3")
    monkeypatch.setenv("MEMORY_SERVER_PORT", "3")
    found = load({"config": config, "port": 4})
    assert (found.port, found.max_queue, found.log_level, str(found.tls_cert)) == (4, 3, "debug", "cert.pem")
    assert load({}).log_level == "info"
    monkeypatch.setenv("MEMORY_SERVER_CONFIG", str(config))
    assert load({}).log_level == "debug"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("port = 70000", "server.toml: port 70000: Input should be less than or equal to 65535"),
        ("prot = 1", "server.toml: prot: no such setting; write port"),
        ("data-dir = 'x'", "server.toml: data-dir: no such setting; write data_dir"),
        ("zzz = 1", "server.toml: zzz: no such setting; memory-server serve --help lists them"),
        ("[server]\nport = 1", r"server.toml: \[server\]: settings stand in no table"),
        ("log_level = 'loud'", "server.toml: log_level loud"),
        ("port = 'x'\nprot = 3", r"server.toml: port x: .* \| .*server.toml: prot: no such setting"),
        ("port 1", r"--config .*: Expected '=' after a key"),
    ],
)
def test_a_file_that_makes_no_sense_is_refused_by_name(config, content, said):
    config.write_text(content)
    with pytest.raises(ValueError, match=said) as caught:
        load({"config": config})
    assert "\n" not in str(caught.value)


SECRET = "5ec2e7" * 10 + "abcd"


@pytest.mark.parametrize("content", [f"encryption_key = '{SECRET}'", f"[encryption]\nkey = '{SECRET}'", SECRET])
def test_a_key_that_was_put_into_the_file_by_mistake_is_not_repeated(config, content):
    config.write_text(content)
    with pytest.raises(ValueError, match=r"toml: \[?encryption|--config") as caught:
        load({"config": config})
    assert SECRET not in str(caught.value)


def test_a_variable_that_is_no_setting_is_refused_and_what_it_holds_is_not_repeated(monkeypatch):
    monkeypatch.setenv("MEMORY_SERVER_ENCRYPTION_KEY", "00" * 32)  # no setting, and known all the same
    load({})
    monkeypatch.setenv("MEMORY_SERVER_ENCRYPTON_KEY", "5ec2e7")
    with pytest.raises(ValueError, match="MEMORY_SERVER_ENCRYPTON_KEY: there is no such setting") as refused:
        load({})
    assert "5ec2e7" not in str(refused.value)


def test_a_file_that_is_not_there_is_refused(config, monkeypatch):
    with pytest.raises(ValueError, match="there is no such file"):
        load({"config": config})
    monkeypatch.setenv("MEMORY_SERVER_CONFIG", str(config))
    with pytest.raises(ValueError, match="there is no such file"):
        load({})


def test_a_wrong_value_is_named_where_it_was_set(monkeypatch):
    monkeypatch.setenv("MEMORY_SERVER_MAX_QUEUE", "x")
    with pytest.raises(ValueError, match=r"--port 70000: .* \| MEMORY_SERVER_MAX_QUEUE x: "):
        load({"port": 70000})


def test_options_that_were_not_given_leave_it_to_the_file(config, monkeypatch):
    seen = []
    monkeypatch.setattr(entry, "_run", lambda load: seen.append(load()))
    config.write_text("max_queue = 2\nlog_json = true")
    arguments = ["serve", "--config", str(config), "--port", "7"]
    done = CliRunner().invoke(entry.application(), arguments, env={"MEMORY_SERVER_LEARNERS": "5"})
    assert done.exit_code == 0, done.output
    assert (seen[0].max_queue, seen[0].log_json, seen[0].port, seen[0].learners) == (2, True, 7, 5)
    assert seen[0].host == "127.0.0.1"


def test_in_a_narrow_terminal_the_help_of_serve_has_every_option_in_full(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    said = CliRunner().invoke(entry.application(), ["serve", "--help"]).output
    assert all(f"--{name.replace('_', '-')}" in said for name in Settings.model_fields)
    assert "…" not in said
