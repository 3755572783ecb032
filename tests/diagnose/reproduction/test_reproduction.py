"""The script as a whole: bash that is in order, for every policy and every step of the library."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from bootmatrix.cell import Cell
from bootmatrix.diagnose.reproduction import script
from bootmatrix.machines.setup import GuestSetup
from bootmatrix.model import Accel, Channel, MigrationMode
from bootmatrix.policies import Policy
from bootmatrix.steps.library import LIBRARY, parse
from helpers.cells import cell
from helpers.fakes import setup


@pytest.fixture
def made(tmp_path: Path) -> GuestSetup:
    return setup(tmp_path)


def written(made: GuestSetup, wanted: Cell) -> str:
    """The script of a cell; bash has read it."""
    made = replace(made, policy=wanted.policy)
    text = script(wanted, made)
    checked = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
    return text


@pytest.mark.parametrize("policy", list(Policy))
def test_it_says_what_the_policy_wants_to_be_seen(made: GuestSetup, policy: Policy) -> None:
    text = written(made, cell("bullseye sid", policy.value))
    assert text.startswith("#!/bin/bash\n# bullseye-to-sid,pc-i440fx-5.2,")
    wanted = "1.17.0-1" if policy in (Policy.MACHINE_OWNED, Policy.REREAD) else "1.14.0-2"
    assert f"# What policy {policy.value} wants to be seen:" in text
    assert f"#   step 3, reset: seabios-{wanted} boots" in text
    assert text.rstrip().endswith("finish 'all steps done'")
    assert ("arm_swap" in text) is (policy in (Policy.MACHINE_OWNED, Policy.REREAD))
    assert (", gdb and" in text) is ("arm_swap" in text)


@pytest.mark.parametrize("scenario", [
    "cold-boot", "reset-by-cf9", "migrate-restart", "host-upgrade-reset", "save-restore-reset",
    "replace-disk-restart", "migrate-during-post", "ping-pong",
])  # fmt: skip
def test_the_library_s_steps_are_bash(made: GuestSetup, scenario: str) -> None:
    text = written(made, cell("bullseye sid", "stock", scenario))
    steps = LIBRARY[scenario].steps
    assert text.count("#   step ") == len(steps)


def test_the_second_disk_is_in_it_only_where_it_is_used(made: GuestSetup) -> None:
    assert "disk_b" not in written(made, cell("bullseye sid", "stock"))
    assert "disk_b" in written(made, cell("bullseye sid", "stock", "replace-disk-restart"))


def test_times_are_the_cell_s(made: GuestSetup) -> None:
    text = written(made, replace(cell("bullseye sid", "stock"), seconds=7.5, patience=99.0))
    assert "@" not in "".join(line for line in text.splitlines() if "SECONDS" in line
                              or "PATIENCE" in line)
    assert "8" in next(line for line in text.splitlines() if "SECONDS" in line)
    assert "99" in next(line for line in text.splitlines() if "PATIENCE" in line)


def test_hosts_reach_each_other_only_where_they_migrate_by_tcp(made: GuestSetup) -> None:
    assert "--unshare-all" in written(made, cell("bullseye sid", "stock"))
    steps = parse("own", ["start", {"migrate": {"channel": Channel.TCP.value}}])
    by_tcp = replace(cell("bullseye sid", "stock"), scenario=steps)
    assert "--unshare-all" not in written(made, by_tcp)


def test_what_a_mode_takes_is_asked_of_both_sides(made: GuestSetup) -> None:
    wanted = cell("bullseye sid", "stock")
    text = written(replace(made, migration=MigrationMode.MULTIFD_ZSTD), wanted)
    assert ("in_mode '[{\"capability\": \"multifd\", \"state\": true}]' "
            "'{\"multifd-channels\": 2, \"multifd-compression\": \"zstd\"}' "
            "1-source 2-destination\nmigrate_unix 1-source 2-destination\n") in text
    assert "\nmigrate_mapped 1-source 2-destination\n" in written(
        replace(made, migration=MigrationMode.MAPPED_RAM), wanted)
    assert "\nin_mode '" not in written(made, wanted)
    late = written(replace(made, migration=MigrationMode.POSTCOPY_AFTER_PASS), wanted)
    assert "\nmigrate_postcopy 1-source 2-destination 1\n" in late
    assert "--dev-bind /dev/userfaultfd /dev/userfaultfd" in late


def test_a_snapshot_is_loaded_by_a_qemu_that_is_launched_behind_it(made: GuestSetup) -> None:
    text = written(replace(made, migration=MigrationMode.SAVEVM), cell("bullseye sid", "stock"))
    saved, loaded = text.index("\nsnapshot save 1-source\n"), text.index(
        "\nsnapshot load 2-destination\n")
    assert saved < text.index("\nstop 1-source\n") < text.index("launch 2-destination") < loaded
    assert "driver=qcow2,node-name=disk" in text


@pytest.mark.parametrize(("mode", "made_by"), [
    (MigrationMode.TLS_X509, "openssl req -x509"), (MigrationMode.TLS_PSK, ">tls/keys.psk")])
def test_credentials_are_made_anew(
    made: GuestSetup, mode: MigrationMode, made_by: str
) -> None:
    text = written(replace(made, migration=mode), cell("bullseye sid", "stock"))
    assert made_by in text
    assert "in_mode '[]' '{\"tls-creds\": \"tls-client\"" in text
    assert "in_mode '[]' '{\"tls-creds\": \"tls-server\"}' 2-destination\n" in text


@pytest.mark.parametrize("mode", [MigrationMode.CPR_TRANSFER, MigrationMode.CPR_EXEC])
def test_a_live_update_is_left_out(made: GuestSetup, mode: MigrationMode) -> None:
    text = written(replace(made, migration=mode), cell("trixie sid", "stock"))
    assert f"finish '{mode} is left out here" in text
    assert "cpr.sock" not in text or mode is MigrationMode.CPR_TRANSFER


def test_what_a_step_tells_qemu_is_told(made: GuestSetup) -> None:
    steps = parse("own", ["start", {"migrate": {
        "capabilities": ["xbzrle"], "parameters": {"xbzrle-cache-size": 4096}}}])
    text = written(made, replace(cell("bullseye sid", "stock"), scenario=steps))
    assert ("in_mode '[{\"capability\": \"xbzrle\", \"state\": true}]' "
            "'{\"xbzrle-cache-size\": 4096}' 1-source 2-destination") in text


def test_kvm_is_each_host_s_own(made: GuestSetup) -> None:
    one = replace(cell("bullseye sid", "stock"), accel=Accel.TCG_TO_KVM)
    two = replace(made, accel=one.accel, hosts=made.hosts[:2])
    assert written(two, one).count("--dev-bind /dev/kvm") == 1


def test_a_name_with_a_newline_stays_a_comment(made: GuestSetup) -> None:
    evil = replace(made.hosts[0], firmware=replace(made.hosts[0].firmware, name="x\ntouch /tmp/y"))
    text = written(replace(made, hosts=[evil, *made.hosts[1:]]), cell("bullseye sid", "stock"))
    assert not [line for line in text.splitlines() if line.startswith("touch ")]
