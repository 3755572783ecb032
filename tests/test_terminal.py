"""What would steer a terminal is shown instead, whichever face says it; files keep it as it was."""

from __future__ import annotations

import copy
import json
import re
import subprocess
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as Xml

import pytest

from bootmatrix.cell import Cell
from bootmatrix.cli.main import main
from bootmatrix.diagnose import reproduction
from bootmatrix.machines.setup import GuestSetup
from bootmatrix.model import FirmwareBuild, Host, HostSpec, QemuBuild
from bootmatrix.policies import Policy
from bootmatrix.records.words import joined, quoted
from bootmatrix.report.markdown import markdown
from bootmatrix.report.summary import rerun_command
from bootmatrix.steps.library import LIBRARY
from bootmatrix.steps.upgrade_nvram import UpgradeNvram
from bootmatrix.terminal import one_line, visible
from helpers.planting import MATRIX, Q35_GUEST, plant
from helpers.records import all_pairs, record

ATTACKS = {
    "title": "\x1b]0;owned\x07", "clipboard": "\x1b]52;c;cm0gLXJm\x1b\\", "long CSI":
    "\x1b[" + "9;" * 30 + "m", "screen": "\x1b[2J\x1b#8", "C1": "\x9b31m\x9d0;owned\x9c\x85",
    "bell": "\x07\x08\x7f\r", "bidi": "\u202egnp\u202c\u2066\u200f", "hidden": "\u200b\ufeff",
    "commands": "\n::error file=a::owned\n \u3000::set-output name=a::b\n##[error]c ##vso[a]b\n",
}
EVERYTHING = "".join(ATTACKS.values())
# Of pytest's own: colours (SGR), and nothing else.
_COLOURS = re.compile(r"\x1b\[[0-9;]{0,20}m")


def harmless(text: str, annotations: str = "") -> bool:
    """Whether a terminal is given nothing but text, and a job's runner no command but some."""
    commands = [line for line in text.splitlines()
                if line.lstrip().startswith("::") or re.search(r"##\w*\[", line)]
    return all(char.isprintable() or char in "\n\t\u3000" for char in text) and all(
        annotations and re.match(annotations, line) for line in commands)


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_each_kind_is_shown(attack: str) -> None:
    shown = visible(f"before{attack}after")
    assert harmless(shown)
    assert "\\" in shown
    assert visible("\ud800\U000e0041") == "\\ud800\\U000e0041"
    assert visible("Plain: ✓ äöü 中文\n\ttext") == "Plain: ✓ äöü 中文\n\ttext"
    assert one_line("a\nb\tc") == "a\\nb c"
    assert json.loads(visible(json.dumps(attack))) == attack


@pytest.mark.parametrize("line", [
    "::error::forged", "  \t::add-mask::x", "\u3000::stop-commands::x", "said ##[error]forged",
    "##[group]x", "a line\n::warning::x", "###[x", "a ##vso[task.setvariable variable=x]y",
])
def test_what_a_ci_runner_would_obey_is_shown(line: str) -> None:
    """GitHub's reads it off the output of a step."""
    shown = visible(line)
    assert harmless(shown)
    assert json.loads(visible(json.dumps(line))) == line
    assert visible("matrices/m.yaml::cell # 1 [x] a::b ::1") == (
        "matrices/m.yaml::cell # 1 [x] a::b ::1")


def hostile() -> Any:
    told = copy.deepcopy(record(verdict="silent", reason=f"nothing {EVERYTHING}"))
    told |= {"retried": EVERYTHING, "matrix": f"matrices/{EVERYTHING}.yaml",
             "artifacts": f"cells/{EVERYTHING}", "error": EVERYTHING}
    told["cell"]["source"]["host"] = "host\u202e"
    for boot in told["boots"]:
        boot |= {"console": f"1.0{EVERYTHING}", "rom": EVERYTHING, "expected": EVERYTHING}
    return told


def test_every_face_that_reads_records(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    known = hostile() | {"known": EVERYTHING}
    known["cell"] |= {"id": "another", "policy": "stock"}
    broken = hostile() | {"verdict": "error"}
    broken["cell"] |= {"id": "broken", "policy": "reread"}
    path, good = tmp_path / "r.jsonl", tmp_path / "good.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in (hostile(), known, broken)))
    good.write_text("".join(json.dumps(one | {"matrix": hostile()["matrix"]}) + "\n"
                            for one in all_pairs()))
    bad = tmp_path / "bad.jsonl"
    bad.write_text(json.dumps(hostile() | {"verdict": EVERYTHING}) + "\n")
    db = str(tmp_path / "db")
    for command in (
        *(["report", str(path), "--format", kind]
          for kind in ("terminal", "markdown", "github", "gitlab", "junit")),
        ["report", str(path), "--which-policy"], ["report", str(bad)],
        ["gate", "--baseline", str(good), str(path)],
        ["history", "add", str(path), "--db", db, "--label", EVERYTHING],
        ["history", "show", "--db", db], ["history", "show", "--db", db, "--cell", "broken"],
        ["report", f"/no/{EVERYTHING}"], ["run", f"/no/{EVERYTHING}"],
        ["repro", EVERYTHING, "--records", str(path)], ["images", "rm", EVERYTHING],
        ["run", "x", "--host", EVERYTHING], ["doctor", EVERYTHING],
    ):
        with suppress(SystemExit):  # argparse's
            main(command)
        said = capsys.readouterr()
        assert said.out or said.err
        assert harmless(said.out, "::error file=" if "github" in command else ""), command
        assert harmless(said.err), command
    (first, *_) = path.read_text().splitlines()
    assert json.loads(first)["reason"] == f"nothing {EVERYTHING}"


@pytest.mark.parametrize("arguments", [(), ("-v", "-rA"), ("-n", "1")])
def test_pytest_tells_it_without_obeying(
    pytester: pytest.Pytester, arguments: tuple[str, ...]
) -> None:
    reason = f"boot 2: {EVERYTHING}"
    matrix = MATRIX.replace("the old firmware hangs at its reset", json.dumps(EVERYTHING))
    plant(pytester.path, matrix=matrix, verdicts={
        Q35_GUEST: {"verdict": "silent", "reason": reason},
        Q35_GUEST.replace("q35", "i440fx"): {"verdict": "error", "reason": reason},
        Q35_GUEST.replace("guest", "machine"): {"verdict": "unsupported", "reason": reason}})
    done = pytester.runpytest("matrices", *arguments, "--bootmatrix-run-dir", "out")
    assert "boot 2: \\x1b]0;owned\\x07" in done.stdout.str()
    assert harmless(_COLOURS.sub("", done.stdout.str() + done.stderr.str()))
    kept = (pytester.path / "out" / "records.jsonl").read_text()
    assert reason in [json.loads(line)["reason"] for line in kept.split("\n") if line]


@pytest.mark.parametrize("arguments", [("-l",), ("-n", "1", "-rA"), ("--tb=short",)])
def test_a_test_of_ones_own_tells_it_without_obeying(
    pytester: pytest.Pytester, arguments: tuple[str, ...]
) -> None:
    pytester.makepyfile(f"""
        import pytest
        from bootmatrix.errors import HarnessError
        @pytest.fixture
        def bootmatrix():
            return None
        def test_it(bootmatrix):
            said = {EVERYTHING!r}
            try:
                raise HarnessError("the first " + said)
            except HarnessError:
                raise HarnessError("no boot", tail=said)
    """)
    done = pytester.runpytest(*arguments)
    assert done.stdout.str().count("owned") > 2
    assert harmless(_COLOURS.sub("", done.stdout.str() + done.stderr.str()))


def test_what_breaks_pytest_is_told_without_obeying(pytester: pytest.Pytester) -> None:
    plant(pytester.path)
    conftest = pytester.path / "conftest.py"
    conftest.write_text(f"""{conftest.read_text()}
def pytest_runtest_logreport(report):
    raise ValueError({EVERYTHING!r})
""")
    done = pytester.runpytest("matrices")
    assert "INTERNALERROR> " in done.stdout.str()
    assert "owned" in done.stdout.str()
    assert harmless(_COLOURS.sub("", done.stdout.str() + done.stderr.str()))


def test_a_key_of_a_matrix_file(
    pytester: pytest.Pytester, capsys: pytest.CaptureFixture[str]
) -> None:
    plant(pytester.path, matrix=MATRIX + json.dumps(EVERYTHING) + ": 1\n")
    for command in ("run", "list"):
        assert main([command, "matrices/m.yaml"]) == 2
        said = capsys.readouterr()
        assert "owned" in said.err
        assert harmless(said.out + said.err)
    done = pytester.runpytest("matrices")
    assert "owned" in done.stdout.str()
    assert harmless(_COLOURS.sub("", done.stdout.str() + done.stderr.str()))


# ---- commands and scripts -----------------------------------------------------------------------

WORDS = ("plain", "", "a b", "it's", "$(touch x)", "`touch x`", "a\nb", "\x1b]0;t\x07", "ä\n",
         "\\'\n", "\u202e'", "-x", "*", "~", "!x\n", "\udcff")


@pytest.mark.parametrize("word", WORDS)
def test_bash_takes_a_quoted_word_as_it_is(word: str) -> None:
    assert harmless(quoted(word))
    assert "\n" not in quoted(word)
    done = subprocess.run(["bash", "-c", f"printf %s {joined([word])}"], check=True,
                          capture_output=True)
    assert done.stdout == word.encode("utf-8", "surrogateescape")


NEWLINE = "1.0\ntouch pwned; $(touch pwned) `touch pwned` '; touch pwned; '"


def test_names_in_a_script_are_no_commands(tmp_path: Path) -> None:
    firmware = FirmwareBuild(f"fw{NEWLINE}", f"ab{NEWLINE}", 131072, tmp_path / f"f{NEWLINE[:20]}")
    small = replace(firmware, size=65536)
    qemu = QemuBuild(f"q{NEWLINE}", NEWLINE, "d", tmp_path,
                     packages=(("qemu-system-x86", NEWLINE),), default_machine="pc",
                     arguments=("-L", NEWLINE), root_name=f"r{NEWLINE}",
                     mounts=((tmp_path, f"/m{NEWLINE}"),))
    hosts = (Host(f"h{NEWLINE}", qemu, firmware), Host("other", qemu, small))
    scenario = next(one for one in LIBRARY.values()
                    if any(isinstance(step, UpgradeNvram) for step in one.steps))
    cell = Cell(tuple(HostSpec(host.name, host.qemu.name) for host in hosts), f"pc{NEWLINE}",
                Policy.GUEST_OWNED, scenario, cpu=f"c{NEWLINE}")
    disk = tmp_path / "disk"
    disk.write_bytes(b"x")
    setup = GuestSetup(hosts, "pc", cell.policy, [disk, disk], cell.disk)  # a board is known
    text = reproduction.script(cell, setup)
    # Only words in quotes may go over a line: nothing begins with what a name put there.
    path = tmp_path / "repro.sh"
    path.write_text("launch() { :; }\n" + text)
    assert harmless(text)
    assert not re.search(r"^touch pwned", text, re.MULTILINE)
    subprocess.run(["bash", "-n", str(path)], check=True)


def test_a_record_s_newline_is_no_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for key in ("host", "build", "firmware", "qemu"):
        told = record()
        told["cell"]["source"][key] = "x\ntouch pwned"
        path = tmp_path / "r.jsonl"
        path.write_text(json.dumps(told) + "\n")
        assert main(["repro", told["cell"]["id"], "--records", str(path)]) == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert f"cell.source.{key} is" in said.err
    for key, value in (("machine", "pc -x"), ("cpu", "$(id)"), ("policy", "none"), ("disk", "x")):
        told = record(**{key: value})
        path.write_text(json.dumps(told) + "\n")
        assert main(["repro", told["cell"]["id"], "--records", str(path)]) == 2
        assert value in capsys.readouterr().err


# ---- other formats ------------------------------------------------------------------------------

MARKDOWN = "`|` <img src=x> [a](http://x) ![b](c) www.x.org @you\n\n# head\n```\n~~~\n* x | y |"


def test_markdown_and_markup_in_every_field(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one_liner = MARKDOWN.replace("\n", " ")
    told = record(verdict="silent", reason=MARKDOWN, scenario=one_liner, machine=one_liner,
                  policy=one_liner, id=one_liner)
    told |= {"matrix": f"a/{MARKDOWN}"}
    told["cell"]["source"] |= {"host": one_liner, "firmware": one_liner, "qemu": one_liner}
    text = markdown([*all_pairs(), told])
    fence = re.search(r"^(`{3,})sh$", text, re.MULTILINE)
    assert fence is not None
    outside = re.sub(rf"(?s)^{fence[1]}sh.*?^{fence[1]}$", "", text, flags=re.MULTILINE)
    for markup in ("<img", "[a](", "http://", "www.", "@you", "\n# head", "![b]"):
        assert markup not in outside, markup
    (row,) = [line for line in outside.splitlines() if line.startswith("| ✗ |")]
    assert len(re.findall(r"(?<!\\)\|", row)) == 4
    assert all(line.count("`") == line.count("\\`") or "`" not in line.replace("\\`", "")
               or re.fullmatch(r".*(?<!\\)`[A-Za-z0-9 ,._+:/=-]+`.*", line)
               for line in outside.splitlines())
    path = tmp_path / "r.jsonl"
    path.write_text(json.dumps(told) + "\n")
    for kind in ("github", "junit", "gitlab"):
        assert main(["report", str(path), "--format", kind]) == 0
        said = capsys.readouterr().out
        if kind == "github":
            assert len(said.splitlines()) == 1
            assert said.count("::") == 2 + MARKDOWN.count("::")
        elif kind == "junit":
            assert Xml.fromstring(said)[0][0].get("name") == one_liner
        else:
            assert json.loads(said)[0]["description"].startswith(one_liner)


def test_a_command_to_copy_is_one_of_ours() -> None:
    told = record() | {"matrix": "--help", "options": ["--qemu", "x=/a b"]}
    assert rerun_command(told).startswith("bootmatrix run ./--help --qemu 'x=/a b' --cell ")
