"""Mistakes in a matrix file, each with its place and a remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from bootmatrix.errors import UserError
from bootmatrix.matrix.expansion import load
from bootmatrix.model import BoardSource, GitSource, QemuSource
from helpers.matrices import BASE, never

KNOWN = "known:\n  - when: {%s}\n    verdict: %s\n    reason: r\n"
MINE = "guests: {mine: {machine: pc-q35-7.2, arguments: []}}\n"
OWN = "scenarios:\n  mine: [%s]\n"


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        (BASE.replace("qa", "7.10"), "3:13", ["hosts.a.qemu", "7.10 without quotes", '"7.10"']),
        (BASE.replace("  a:", "  7.10:"), "3:3", ["text", '"7.10"']),
        (BASE.replace("pc-q35-5.2", "5.20"), "6:12", ["axes.machine", '"5.20"']),
        (BASE + KNOWN % ("source.qemu: [7.10]", "silent"), "9:26", ['"7.10"']),
        (BASE + "exclude: [{source: 10}]\n", "8:20", ['"10"']),
        (BASE.replace("  a:", "  a b:"), "3:3", ["'a b' is not a name"]),
        (BASE.replace("  a:", "  a-to-b:"), "3:3", ["'-to-'"]),
        (BASE.replace("qa}", "qa, firmwre: x}"), "3:17", ["did you mean 'firmware'?"]),
        (BASE.replace("{qemu: qa}", "qa"), "3:6", ["'qa'; it must be a mapping"]),
        (BASE.replace("{qemu: qa}", "{firmware: x}"), "3:6", ["hosts.a.qemu: is missing"]),
        (BASE.replace("hosts:", "host:"), "2:1", ["did you mean 'hosts'?"]),
        (BASE.replace("schema: 1", "schema: 2"), "1:9", ["found a number (2)", "accepted: 1"]),
        (BASE.replace("  machine: pc-q35-5.2\n", ""), "6:3", ["axes.machine: is missing"]),
        (BASE + "  polcy: stock\n", "8:3", ["no such axis", "did you mean 'policy'?"]),
        (BASE + "  policy: [reread, stok]\n", "8:20", ["did you mean 'stock'?", "machine-owned"]),
        (BASE + "  policy: [stock, stock]\n", "8:19", ["listed twice"]),
        (BASE + "  policy: []\n", "8:11", ["is empty"]),
        (BASE + "  policy:\n", "8:3", ["found nothing"]),
        (BASE + "  source: [a, c]\n", "8:15", ["no host has the name 'c'", "accepted: a, b"]),
        (BASE + "  disk: nvme\n", "8:9", ["found 'nvme'", "virtio"]),
        (BASE + "  arch: arm64\n", "8:9", ["found 'arm64'", "aarch64"]),
        (BASE + "  guest: linux_kernel\n", "8:10", ["did you mean 'linux-kernel'?"]),
        (BASE + "  nic: rtl8139\n", "8:8", ["found 'rtl8139'", "e1000-romsize"]),
        (BASE + "  cpu: 486\n", "8:8", ["486 without quotes", '"486"']),
        (BASE + '  cpu: "max,+"\n', "8:8", ["'max,+' is not what cpu can be", "Haswell,-hle"]),
        (BASE + '  smp: "4,maxcpus"\n', "8:8", ["'4,maxcpus' is not what smp can be"]),
        (BASE + "  arguments: numa\n", "8:14", ["found names", "{NAME: [WORD, ...]"]),
        (BASE + "  arguments: {a: [-S]}\n", "8:18", ["-S is not to be given here: the monitor"]),
        (BASE + "  devices: {a: ['-machine', 'accel=kvm']}\n", "8:16", ["accel= is not to be"]),
        (BASE + "  guest: mine\nguests: {mine: {}}\n", "9:16", ["found nothing of its own"]),
        (BASE + "  guest: mine\nguests: {probe: {command-line: x}}\n", "9:10", ["already"]),
        (BASE + "guests: {mine: {command-line: /no/such}}\n", "8:31", ["cannot be read"]),
        (BASE + "guests: {mine: {machine: pc, command-line: x}}\n", "8:17",
         ["machine: stands beside arguments"]),
        (BASE + "guests: {mine: {command-line: x, smbios: y}}\n", "8:34", ["beside disk"]),
        (BASE + "guests: {mine: {disk: x, up: y, login: {a: b}}}\n", "8:33",
         ["login: stands beside smbios"]),
        (BASE + "guests: {mine: {disk: /etc/passwd, format: raw, up: 'x*'}}\n", "8:53",
         ["'x*' is found where nothing"]),
        (BASE + "guests: {mine: {disk: /etc/passwd, format: raw, up: '('}}\n", "8:53",
         ["no regular expression: missing )"]),
        (BASE + "guests: {mine: {disk: m.yaml, up: y}}\n", "8:23",
         ["no qcow2 image", "format: raw"]),
        (BASE + "limits: {memory: 10}\n", "8:18", ["found a number (10); it must be 64 or more"]),
        (BASE + "arguments: {a: [-S]}\n", "8:1", ["arguments: no such field", "below axes:"]),
        (BASE + "limits: {files: 300}\n", "8:10", ["files: no such field", "file, processes"]),
        (BASE + "guests: {mine: {arguments: []}}\n", "8:16", ["machine: is missing"]),
        (BASE + "  guest: [probe, mine]\n" + MINE, "8:10",
         ["mine has a machine of its own, pc-q35-7.2, and probe has not",
          "include: [{guest: mine}"]),
        (BASE.replace("machine: pc-q35-5.2", "machine: own"), "6:12",
         ["own: probe has no machine of its own", "newest-common"]),
        (BASE.replace("  machine: pc-q35-5.2\n", "  guest: mine\n") + MINE +
         "include: [{guest: probe}]\n", "9:11", ["own: probe has no machine of its own"]),
        (BASE + "  smp: 0\n", "8:8", ["found a number (0); it must be 1 or more"]),
        (BASE + '  smp: [1, "2"]\n', "8:12", ["found '2'; it must be a whole number"]),
        (BASE + "  smp: true\n", "8:8", ["truth value (true); it must be a whole number"]),
        (BASE + "exclude: [{smp: two}]\n", "8:17", ["smp is never 'two'", "whole number"]),
        (BASE + 'exclude: [{smp: "0"}]\n', "8:17", ["smp is never '0'"]),
        (BASE + "exclude: [{smp: 1.5}]\n", "8:17", ["1.5 without quotes"]),
        (BASE + 'exclude: [{disk: ""}]\n', "8:18", ["is empty"]),
        (BASE + "exclude: [{arch: arm64}]\n", "8:18", ["arch is never 'arm64'", "aarch64"]),
        (BASE + KNOWN % ("nic: e100", "silent"), "9:17", ["nic is never 'e100'", "e1000"]),
        (BASE + KNOWN % ('source.qemu: ""', "silent"), "9:25", ["is empty"]),
        (BASE + "  host-4: a\n", "8:3", ["no axis host-3"]),
        (BASE + "  host-2: a\n", "8:3", ["no such axis"]),
        (BASE.replace("pc-q35-5.2", "pc q35"), "6:12", ["not what machine can be"]),
        (BASE.replace("pc-q35-5.2", "[a, newest:pc]"), "6:16", ["newest-common:FAMILY"]),
        (BASE.replace("migrate-reset", "migrate-rest"), "7:13", ["did you mean 'migrate-reset'?"]),
        (BASE.replace("migrate-reset", "[reset, chain]"), "7:21", ["chain needs", "host-3: [a"]),
        (
            BASE.replace("migrate-reset", "nvram-upgrade-reset") + "  policy: stock\n",
            "8:11",
            ["no cell remains", "guest-owned"],
        ),
        (BASE + "schema: 1\n", "8:1", ["schema: stands here twice"]),
        (BASE + "exclude:\n  - {source: a*, source: b}\n", "9:18", ["source: stands here twice"]),
        (BASE + "exclude:\n  - {sorce: a}\n", "9:6", ["did you mean 'source'?"]),
        (BASE + "exclude:\n  - {source: c}\n", "9:14", ["source is never 'c'"]),
        (BASE + 'exclude:\n  - {source: "=host-3"}\n', "9:14", ["'=host-3' names no other"]),
        (BASE + "exclude:\n  - {}\n", "9:5", ["every cell"]),
        (BASE + "exclude:\n  - {source: '*'}\n", "8:1", ["no cell remains"]),
        (BASE + "include:\n  - {scenario: chain}\n", "9:16", ["include[0].scenario", "host-3"]),
        (
            BASE + "include:\n  - {policy: stock, scenario: nvram-upgrade-reset}\n",
            "9:14",
            ["include[0].policy", "no cell remains"],
        ),
        (BASE + OWN % "start, migrat", "9:17", ["did you mean 'migrate'?"]),
        (BASE + OWN % "start, {migrate: {to: sid}}", "9:32", ["no host of a cell: 'sid'"]),
        (BASE + OWN % "start, {migrate: {too: source}}", "9:28", ["did you mean 'to'?"]),
        (BASE + OWN % "start, {reset: {by: cf8}}", "9:30", ["did you mean 'cf9'?"]),
        (BASE + OWN % "start, shutdown, reset", "9:27", ["needs a running guest"]),
        (BASE + OWN % "", "9:9", ["at least one step"]),
        (BASE + "scenarios:\n  reset: [start]\n", "9:3", ["library has a scenario"]),
        (BASE + KNOWN % ("sorce.qemu: a", "silent"), "9:12", ["did you mean 'source.qemu'?"]),
        (BASE + KNOWN % ("policy: stok", "silent"), "9:20", ["policy is never 'stok'"]),
        (BASE + KNOWN % ("source.host: c", "silent"), "9:25", ["source is never 'c'"]),
        (BASE + KNOWN % ("disk: ide", "pass"), "10:14", ["pass is no incompatibility"]),
        (BASE + KNOWN % ("disk: ide", "[silent, nobot]"), "10:23", ["did you mean 'no-boot'?"]),
        (BASE + KNOWN % ("", "silent"), "9:11", ["is empty"]),
        (BASE + "boot-timeout: 0\n", "8:15", ["more than 0"]),
        (BASE + "boot-timeout: .inf\n", "8:15", ["finite"]),
        (BASE + "boot-timeout: true\n", "8:15", ["number of seconds"]),
        (BASE + "debug-log: no\n", "8:12", ["accepted: on, off"]),
        (BASE + "sample: all\n", "8:9", ["pairwise, or a number"]),
        (BASE + "sample: true\n", "8:9", ["pairwise, or a number"]),
        ("- 1\n", "1:1", ["must be a mapping"]),
        ("", "1:1", ["must be a mapping"]),
        ("a: [1\n", "2:1", ["is not YAML"]),
        ("&a\nb: *a\n", "1:1", ["refers to itself"]),
        ("a: 2020-99-99\n", "", ["YAML cannot read"]),
        ("a: \x01\n", "", ["is not YAML"]),
    ],
)
def test_mistakes_have_a_place_and_a_remedy(
    tmp_path: Path, text: str, place: str, words: list[str]
) -> None:
    path = tmp_path / "m.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as caught:
        load(path).cells(never)
    message = str(caught.value)
    assert message.startswith(f"{path}:{place}: " if place else f"{path}: ")
    assert "\n" not in message
    for word in words:
        assert word in message


# ---- real boards ------------------------------------------------------------------------------


def board_matrix(directory: Path, host: str) -> Path:
    """A matrix file of one host."""
    file = directory / "boards.yaml"
    file.write_text(f"schema: 1\nhosts:\n  a: {host}\n"
                    "axes: {machine: newest-common, scenario: cold-boot, policy: stock}\n")
    return file


def test_a_board_is_a_host_whose_machine_is_its_own(tmp_path: Path) -> None:
    matrix = load(board_matrix(
        tmp_path, "{board: {env: bench/env.yaml, target: x, restore: true}, firmware: y}"))
    source = matrix.hosts[0].qemu
    assert source == BoardSource(env=tmp_path / "bench/env.yaml", target="x", restore=True)
    cell, = matrix.cells(lambda host: pytest.fail("no board is asked for machine types"))
    assert cell.id == "a,board,stock,cold-boot,ahci"
    assert matrix.qemu_names() == ()


@pytest.mark.parametrize(("host", "words"), [
    ("{board: {env: e}}", "3:6: hosts.a.firmware: is missing: what is to be in the board's chip"),
    ("{board: {env: e}, qemu: q, firmware: x}", "3:6: hosts.a: found qemu and board"),
    ("{board: {target: x}, firmware: x}", "3:14: hosts.a.board.env: is missing"),
    ("{board: {env: e, targt: x}, firmware: x}", "3:23: hosts.a.board.targt: no such field"),
    ("{board: e, firmware: x}", "3:14: hosts.a.board: found 'e'; it must be a mapping"),
    ("{board: {env: e, restore: 1}, firmware: x}",
     "3:32: hosts.a.board.restore: found a number (1); it must be true or false"),
], ids=["firmware", "both", "env", "mistyped", "text", "number"])
def test_a_boards_mistakes_have_their_place(tmp_path: Path, host: str, words: str) -> None:
    with pytest.raises(UserError) as caught:
        load(board_matrix(tmp_path, host))
    assert words in str(caught.value)


@pytest.mark.parametrize(("host", "place", "words"), [
    ("qemu: {path: x, revision: y}", "3:23", ["revision: stands beside a source",
                                               "{source: ../qemu, revision: v9.2.0}"]),
    ("qemu: {path: x, packages: [yy]}", "3:23", ["packages: stands beside a source"]),
    ("qemu: {path: x, source: y}", "3:13", ["found path and source", "just one of"]),
    ("qemu: {source: x, revision: y, revisions: z}", "3:38",
     ["revisions: stands in the place of a revision"]),
    ("qemu: {source: x, program: y}", "3:25", ["is that of a root"]),
    ("qemu: {source: x, packages: [Y]}", "3:36", ["packages"]),
    ("qemu: {source: x, toolchain: 'no suite'}", "3:36", ["toolchain"]),
    ("qemu: {source: /nowhere, revisions: v1..v2 tags}", "3:13", ["/nowhere is not there"]),
    ("qemu: qa, firmware: {source: x, symbols: y}", "3:39", ["stands beside a path"]),
    ("qemu: qa, firmware: {descriptor: x, flash: false}", "3:43", ["stands beside a path"]),
    ("qemu: qa, firmware: {path: x, variables: y, flash: false}", "3:37",
     ["variables are kept in flash alone"]),
    ("qemu: qa, firmware: {path: x, flash: 3}", "3:44", ["flash"]),
    ("qemu: qa, firmware: {source: /nowhere, revisions: v1..v2 tags}", "3:27",
     ["hosts.a.firmware", "/nowhere is not there"]),
])
def test_mistakes_about_a_source(host: str, place: str, words: list[str], tmp_path: Path) -> None:
    file = tmp_path / "m.yaml"
    file.write_text(BASE.replace("{qemu: qa}", f"{{{host}}}"))
    with pytest.raises(UserError) as caught:
        load(file)
    for word in (f"m.yaml:{place}: ", *words):
        assert word in str(caught.value)


def test_a_commit_of_a_repository(tmp_path: Path) -> None:
    file = tmp_path / "m.yaml"
    file.write_text(BASE.replace("{qemu: qa}", "{qemu: {source: ../q, data: d, options: [--x]}}"))
    host = load(file).hosts[0]
    assert host.qemu == QemuSource(
        data=tmp_path / "d", git=GitSource(tmp_path / "../q", options=("--x",)))
