"""`cluster update` and `cluster ca`: what is sent for which words, and what is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from swarmctl.cluster_flags import ClusterFlags, changed_cluster_spec, parse_external_cas
from swarmctl.commands.cluster_ca import root_rotation_progress
from swarmctl.commands.cluster_update import EDIT_TRIES_MAX
from swarmd.errors import Conflict, Invalid
from swarmd.model import ClusterSpec, Driver, ExternalCA, JoinTokens, RootCA, RootRotation, TokenlessJoin, UnlockKey
from swarmd.wire.cluster import ClusterView, RootView, RotationProgress, UpdateCluster, WaitingNode

from .fake_daemon import NOW, FakeDaemon

OLD, NEW = "0" * 64, "1" * 64
URL = "https://ca.example:8888/sign"


class Daemon(FakeDaemon):
    """Keeps what it is sent; a rotation begins with a certificate or a higher counter, and goes on with each read."""

    def __init__(self) -> None:
        super().__init__()
        self.cluster = replace(
            self.cluster,
            root_ca=RootCA(
                certificate=b"-----BEGIN CERTIFICATE-----\nold\n",
                digest="d" * 50,
                join_tokens=JoinTokens(worker="SWMTKN-w", manager="SWMTKN-m"),
            ),
        )
        self.root = RootView(fingerprint=OLD, expires_at=NOW + 100.5 * 86_400)
        self.rotation: RotationProgress | None = None
        self.conflicts = 0
        self.ends_with = NEW
        self.handlers["cluster.update"] = self.update
        self.handlers["cluster.get"] = self.get

    def view(self) -> ClusterView:
        return ClusterView(cluster=self.cluster, root=self.root, rotation=self.rotation)

    def update(self, request: UpdateCluster) -> ClusterView:
        if self.conflicts:
            self.conflicts -= 1
            self.cluster = replace(self.cluster, meta=replace(self.cluster.meta, version=99))
            raise Conflict("update out of sequence")
        old, new = self.cluster.spec.ca, request.spec.ca
        if new.signing_ca_certificate or new.force_rotate > old.force_rotate:
            self.rotation = RotationProgress(
                started_at=NOW,
                fingerprint=NEW,
                done=3,
                total=5,
                waiting=(WaitingNode(node_id="n" * 25, hostname="web-1", reason="down"),),
            )
        key = self.cluster.unlock_key
        if request.spec.encryption != self.cluster.spec.encryption or request.rotate_unlock_key:
            key = UnlockKey(version=key.version + 1)
        self.cluster = replace(self.cluster, spec=request.spec, unlock_key=key)
        return self.view()

    def get(self, request: Any) -> ClusterView:
        view = self.view()
        if self.rotation is not None:
            done = self.rotation.done + 1
            self.rotation = replace(self.rotation, done=done) if done <= self.rotation.total else None
            if self.rotation is None:
                self.root = replace(self.root, fingerprint=self.ends_with)
                self.cluster = replace(self.cluster, root_ca=replace(self.cluster.root_ca, digest="e" * 50))
        return view

    @property
    def sent(self) -> UpdateCluster:
        request: UpdateCluster = self.asked("cluster.update")[-1]
        return request


@pytest.fixture
def daemon() -> Daemon:
    return Daemon()


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    found = {}
    for name in ("cert", "key"):
        path = tmp_path / name
        path.write_bytes(f"the {name}".encode())
        found[name] = str(path)
    return found


# -- update --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "path", "value"),
    [
        ("--task-history 9", "orchestration.task_history_retention_limit", 9),
        ("--taskhistory -1", "orchestration.task_history_retention_limit", -1),
        ("--task-history-limit 0", "orchestration.task_history_retention_limit", 0),
        ("--cert-expiry 48h", "ca.node_cert_expiry_s", 172_800.0),
        ("--certexpiry 2h30m", "ca.node_cert_expiry_s", 9_000.0),
        ("--heartbeat-period 7s", "dispatcher.heartbeat_period_s", 7.0),
        ("--heartbeatperiod 7", "dispatcher.heartbeat_period_s", 7.0),
        ("--dispatcher-heartbeat 7s", "dispatcher.heartbeat_period_s", 7.0),
        ("--autolock", "encryption.auto_lock_managers", True),
        ("--autolock=true", "encryption.auto_lock_managers", True),
        ("--tokenless-join deny", "ca.tokenless_join", TokenlessJoin.DENY),
        ("--log-driver syslog", "task_defaults.log_driver", Driver(name="syslog")),
        ("--log-driver x --log-opt a=b", "task_defaults.log_driver", Driver(name="x", options={"a": "b"})),
        (f"--external-ca protocol=cfssl,url={URL}", "ca.external_cas", (ExternalCA(url=URL),)),
    ],
)
def test_each_setting_under_each_of_its_names_and_nothing_else(
    daemon: Daemon, words: str, path: str, value: Any
) -> None:
    before = daemon.cluster
    result = daemon.run("cluster", "update", *words.split())
    assert (result.code, result.out) == (0, "c" * 25 + "\n"), result.err
    part, _, field = path.partition(".")
    expected = replace(before.spec, **{part: replace(getattr(before.spec, part), **{field: value})})
    assert daemon.sent == UpdateCluster(id="c" * 25, spec=expected, version=before.meta.version)


@pytest.mark.parametrize("word", ["--no-autolock", "--autolock=false"])
def test_autolock_off_in_both_ways_of_writing(daemon: Daemon, word: str) -> None:
    daemon.run("cluster", "update", "--autolock")
    result = daemon.run("cluster", "update", "default", word)
    assert not daemon.sent.spec.encryption.auto_lock_managers
    assert "Autolock is off" in result.err


def test_whoever_gets_a_new_unlock_key_is_told_where_to_find_it(daemon: Daemon) -> None:
    for words in ("--autolock", "--rotate-unlock-key"):
        result = daemon.run("cluster", "update", words)
        assert "swarmctl cluster unlock-key" in result.err
    assert daemon.sent.rotate_unlock_key
    assert daemon.run("cluster", "update", "--task-history", "3").err == ""


@pytest.mark.parametrize("roles", [("worker",), ("manager",), ("worker", "manager")])
def test_tokens_are_rotated_by_role(daemon: Daemon, roles: tuple[str, ...]) -> None:
    daemon.run("cluster", "update", *(f"--rotate-join-token={role}" for role in roles))
    assert (daemon.sent.rotate_worker_token, daemon.sent.rotate_manager_token) == (
        "worker" in roles,
        "manager" in roles,
    )


def test_an_empty_list_of_external_cas_can_be_asked_for(daemon: Daemon) -> None:
    daemon.run("cluster", "update", "--external-ca", f"protocol=cfssl,url={URL}")
    daemon.run("cluster", "update", "--external-ca", "")
    assert daemon.sent.spec.ca.external_cas == ()


@pytest.mark.parametrize(
    "words",
    [
        "",
        "--task-history many",
        "--cert-expiry soon",
        "--heartbeat-period x",
        "--tokenless-join maybe",
        "--rotate-join-token root",
        "--autolock=perhaps",
        "--external-ca cfssl",
        f"--external-ca url={URL}",
        "--external-ca protocol=cfssl",
        f"--external-ca protocol=cfssl,url={URL},url={URL}",
        f"--external-ca protocol=cfssl,url={URL},cacert=/nowhere",
        "--version x",
    ],
)
def test_bad_words_are_one_error_and_nothing_is_sent(daemon: Daemon, words: str) -> None:
    result = daemon.run("cluster", "update", *words.split())
    assert result.code == 2
    assert result.err.startswith("Error: ")
    assert daemon.asked("cluster.update") == []


def test_somebody_elses_change_in_between_is_no_obstacle_unless_a_version_was_named(daemon: Daemon) -> None:
    daemon.conflicts = EDIT_TRIES_MAX - 1
    assert daemon.run("cluster", "update", "--task-history", "9").code == 0
    assert daemon.sent.version == 99
    daemon.conflicts = 1
    assert daemon.run("cluster", "update", "--task-history", "8", "--version", "7").code != 0
    assert daemon.sent.version == 7
    daemon.conflicts = EDIT_TRIES_MAX
    assert daemon.run("cluster", "update", "--task-history", "8").code != 0


def test_external_cas_as_they_are_written(tmp_path: Path) -> None:
    root = tmp_path / "root,1.pem"
    root.write_bytes(b"pem")
    texts = [f'protocol=CFSSL, url={URL} ,"cacert={root}",label=a=b']
    assert parse_external_cas(texts) == (ExternalCA(url=URL, ca_certificate=b"pem", options={"label": "a=b"}),)


def test_no_flag_changes_nothing() -> None:
    spec = ClusterSpec(labels={"a": "b"})
    assert changed_cluster_spec(spec, ClusterFlags()) == spec
    assert ClusterFlags().is_empty


# -- ca ------------------------------------------------------------------------------------------------------------


def test_show_prints_the_root_alone(daemon: Daemon) -> None:
    assert daemon.run("cluster", "ca", "show").out == "-----BEGIN CERTIFICATE-----\nold\n"
    document = json.loads(daemon.run("cluster", "ca", "show", "-o", "json").out)
    assert document["fingerprint"] == OLD
    assert document["has_key"] is True
    assert daemon.run("cluster", "ca", "show", "-q").out == OLD + "\n"


def test_rotate_waits_and_tells_how_far_it_is_and_the_new_digest(daemon: Daemon) -> None:
    result = daemon.run("cluster", "ca", "rotate", "--wait")
    assert result.code == 0, result.err
    assert result.out == f"rotating to root {NEW}\ndigest {'e' * 50}\n"
    assert "root rotation: 3 of 5 nodes (web-1: down; and 1 more)" in result.err
    assert "root rotation: 4 of 5 nodes (web-1: down)" in result.err
    assert "root rotation: done" in result.err
    assert "The join tokens are new" in result.err
    assert daemon.sent.spec.ca.force_rotate == 1


@pytest.mark.parametrize("word", ["--detach", "-d", "--no-wait"])
def test_rotate_need_not_wait(daemon: Daemon, word: str) -> None:
    daemon.is_terminal = True
    result = daemon.run("cluster", "ca", "rotate", word)
    assert (result.out, result.err) == (f"rotating to root {NEW}\n", "")
    assert daemon.rotation is not None


def test_rotate_in_few_words_for_scripts(daemon: Daemon) -> None:
    assert daemon.run("cluster", "ca", "rotate", "--wait", "-q").out == NEW + "\n"
    assert json.loads(Daemon().run("cluster", "ca", "rotate", "-o", "json").out)["rotation"]["total"] == 5


def test_a_root_is_brought_with_its_key(daemon: Daemon, files: dict[str, str]) -> None:
    daemon.run("cluster", "ca", "rotate", "--ca-cert", files["cert"], "--ca-key", files["key"], "--cert-expiry", "2h")
    ca = daemon.sent.spec.ca
    assert (ca.signing_ca_certificate, ca.signing_ca_key) == (b"the cert", b"the key")
    assert (ca.force_rotate, ca.node_cert_expiry_s) == (0, 7200.0)


def test_a_root_that_an_external_ca_signs_for_and_those_that_are_listed_stay(
    daemon: Daemon, files: dict[str, str]
) -> None:
    daemon.run("cluster", "update", "--external-ca", f"protocol=cfssl,url={URL}")
    other = "https://other.example/sign"
    words = ("--ca-cert", files["cert"], "--external-ca", f"protocol=cfssl,url={other}")
    daemon.run("cluster", "ca", "rotate", *words)
    assert daemon.sent.spec.ca.external_cas == (
        ExternalCA(url=URL),
        ExternalCA(url=other, ca_certificate=b"the cert"),
    )


@pytest.mark.parametrize(
    "words",
    [
        "--ca-key KEY",
        f"--external-ca protocol=cfssl,url={URL}",
        "--ca-cert /nowhere",
        "--ca-cert /dev/null",
        "--ca-cert CERT --ca-key /",
        "--cert-expiry soon",
        "--timeout soon",
    ],
)
def test_bad_words_of_rotate_send_nothing(daemon: Daemon, files: dict[str, str], words: str) -> None:
    filled = words.replace("CERT", files["cert"]).replace("KEY", files["key"])
    result = daemon.run("cluster", "ca", "rotate", *filled.split())
    assert result.code == 2, result.err
    assert daemon.asked("cluster.update") == []


def test_a_rotation_that_another_takes_the_place_of_is_told(daemon: Daemon) -> None:
    daemon.ends_with = "2" * 64
    result = daemon.run("cluster", "ca", "rotate", "--wait")
    assert result.code == 10
    assert "called off" in result.err


def test_a_rotation_is_called_off_by_wanting_the_present_root(daemon: Daemon) -> None:
    daemon.handlers["cluster.update"] = lambda request: daemon.view()
    result = daemon.run("cluster", "ca", "rotate", "--abort")
    assert result.code == 0, result.err
    ca = daemon.sent.spec.ca
    assert ca.signing_ca_certificate == daemon.cluster.root_ca.certificate
    assert (ca.signing_ca_key, ca.force_rotate) == (b"", 0)
    assert "The root stays what it is" in result.err
    assert daemon.run("cluster", "ca", "rotate", "--abort", "--cert-expiry", "2h").code == 2


def test_progress_of_a_rotation(daemon: Daemon) -> None:
    class Reader:
        def read(self, method: Any, request: Any) -> ClusterView:
            return daemon.view()

    reader: Any = Reader()
    assert root_rotation_progress(reader, OLD).done
    assert root_rotation_progress(reader, NEW).stuck
    daemon.rotation = RotationProgress(started_at=NOW, fingerprint=NEW, done=1, total=2)
    assert root_rotation_progress(reader, NEW).text == "1 of 2 nodes"
    assert root_rotation_progress(reader, "2" * 64).stuck == "another rotation took its place"


def test_inspect_shows_root_signers_and_rotation(daemon: Daemon) -> None:
    daemon.cluster = replace(
        daemon.cluster,
        spec=replace(daemon.cluster.spec, ca=replace(daemon.cluster.spec.ca, external_cas=(ExternalCA(url=URL),))),
        root_ca=replace(daemon.cluster.root_ca, rotation=RootRotation(certificate=b"x", cross_signed=b"y")),
    )
    daemon.root = replace(daemon.root, has_key=False)
    daemon.rotation = RotationProgress(started_at=NOW, fingerprint=NEW, done=1, total=2)
    out = daemon.run("cluster", "inspect").out
    for line in (
        f"    Fingerprint: {OLD}\n",
        "(100 days left)\n",
        "    Key: an external CA has it\n",
        f"    cfssl: {URL}\n",
        f"    New root: {NEW}\n",
        "    Progress: 1 of 2 nodes\n",
    ):
        assert line in out
    document = json.loads(daemon.run("cluster", "inspect", "-o", "json").out)
    assert document["root"]["fingerprint"] == OLD
    assert document["rotation"]["done"] == 2
    for place in (document["root_ca"], document["root_ca"]["rotation"], document["unlock_key"]):
        assert "key" not in place
    assert not {"signing_ca_key", "signing_ca_certificate"} & set(document["spec"]["ca"])


def test_help_names_the_groups_commands(daemon: Daemon, capsys: pytest.CaptureFixture[str]) -> None:
    assert daemon.run("cluster", "ca", "--help").code == 0
    shown = capsys.readouterr().out
    assert "rotate" in shown
    assert "show" in shown
    assert daemon.run("cluster", "--help").code == 0
    assert " ca " in capsys.readouterr().out
    result = daemon.run("cluster", "ca", "rotat")
    assert result.code == 2
    assert 'did you mean "rotate"' in result.err


def test_a_malformed_list_is_invalid() -> None:
    with pytest.raises(Invalid):
        parse_external_cas(["x" * 200_000])
