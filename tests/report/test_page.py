"""The HTML report in a real Chromium: looked at, clicked through, searched, and attacked."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bootmatrix.cli.report import consoles
from bootmatrix.records.merged import merged
from bootmatrix.report.compare import compare
from bootmatrix.report.page import page
from bootmatrix.terminal import visible
from helpers.browser import Browser, browser
from helpers.records import all_pairs, failing, record

ATTACK = "<script>document.title='owned'</script>"
HOSTILE = (f"SeaBIOS (version 9.9{ATTACK})\r\n</script>{ATTACK}"
           "<img src=x onerror=alert(1)>\u2028end\r\n")
READY = "document.documentElement.dataset.ready"
OPEN = "!document.getElementById('story').hidden && document.querySelector('#story .badge')"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as one:
        yield one


def many() -> list[Any]:
    """Two scenarios, all pairs of hosts; one cell fails, and its firmware is hostile."""
    cells = []
    for told in all_pairs():
        for scenario in ("migrate-reset", "move"):
            cell = copy.deepcopy(told)
            cell["cell"]["scenario"] = scenario
            cell["cell"]["id"] += f",{scenario}"
            cells.append(cell)
    bad = failing()
    same = "bullseye-to-sid,pc-q35-5.2,guest-owned,migrate-reset,migrate-reset"
    return [*(one for one in cells if one["cell"]["id"] != same), bad]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "index.html"
    said = lambda told: [("1-source", HOSTILE.encode())] if told["verdict"] != "pass" else None  # noqa: E731
    box = lambda told: HOSTILE.encode() if told["verdict"] != "pass" else None  # noqa: E731
    path.write_text(page(merged(many()), said, title=f"A {ATTACK}", black_boxes=box))
    return path


@pytest.fixture
def loaded(chromium: Browser, report: Path) -> Browser:
    chromium.size(1400, 900)
    chromium.scheme("light")
    chromium.open(report)
    chromium.until(READY)
    return chromium


def shown(page: Browser) -> str:
    return str(page.run("return document.getElementById('shown').textContent"))


def test_a_failure_is_clicked_through_to(loaded: Browser) -> None:
    loaded.click(".chip[data-outcome=failed]")
    assert shown(loaded).startswith("1 of ")
    assert "do not fit, 1 cell: the code is of another <b>layout</b>" in loaded.run(
        "return document.querySelector('header').innerText")
    loaded.click("#grid .tile")
    loaded.until(OPEN)
    story = loaded.run("return document.getElementById('story').innerText")
    assert "nothing <b>came</b>" in story
    assert "✗ failed: silent" in story
    assert "black box: loops in 0x10-0x18 <b>" in story
    assert "passes from bookworm" in story
    loaded.click("#story .facts a")  # the cell beside it that passed
    loaded.until("document.getElementById('story').innerText.includes('✓ passed')")
    assert loaded.run("return decodeURIComponent(location.hash)") == (
        "#cell=bookworm-to-sid,pc-q35-5.2,guest-owned,migrate-reset,migrate-reset&outcome=failed")
    loaded.run("history.back()")
    loaded.until("document.getElementById('story').innerText.includes('✗ failed')")
    assert "the code is of another <b>layout</b>" in story
    assert "bootmatrix run matrices/m.yaml --cell bullseye-to-sid" in story
    # The timeline: three steps, the firmware in each stretch.
    texts = loaded.run("return [...document.querySelectorAll('#story svg text')]"
                       ".map((one) => one.textContent)")
    assert [one for one in texts if one in ("start", "migrate", "reset")] == [
        "start", "migrate", "reset"]
    assert texts.count("1.14.0-2") + texts.count("✓ 1.14.0-2") == 2
    assert "✗ 1.14.0-2" in texts
    assert loaded.run("return document.querySelector('#story td.off').textContent") == "nothing"
    assert loaded.run("return location.hash").startswith("#cell=bullseye-to-sid")
    assert loaded.console() == []


def test_the_page_opens_with_what_broke(chromium: Browser, tmp_path: Path) -> None:
    link = "https://bugs.example/1"
    bad = failing() | {"ended": "2026-11-26T18:00:00.000+00:00", "black_box": None}
    known = record("sid bullseye", verdict="silent", reason="x", known="it hangs") | {
        "known_link": link}
    odd = record("sid trixie", verdict="silent", reason="y", known="it runs") | {
        "known_link": "javascript:alert(1)"}
    path = tmp_path / "index.html"
    path.write_text(page([bad, known, odd, record("trixie sid")], lambda told: None, title="T",
                         seconds=83.0))
    chromium.size(1400, 900)
    chromium.open(path)
    chromium.until(READY)
    header = chromium.run("return document.querySelector('header').innerText")
    for part in ("What broke", "1 failed", "silent: boot 2 (reset on destination): nothing",
                 "2026-11-26 18:00 UTC · cells ran for 1 min 23 s · bootmatrix ",
                 "bullseye: QEMU 5.2.0, seabios-1.14.0-2", "bootmatrix repro --attach bullseye-to",
                 "bootmatrix bisect --cell bullseye-to-sid"):
        assert part in header, part
    links = chromium.run("return [...document.querySelectorAll('#broken a')].map((a) => a.href)")
    assert link in links
    assert not [one for one in links if one.startswith("javascript")]
    # Copied is what stands there, or it is not called so.
    chromium.click("#broken .copy")
    said = chromium.until("/copied|selected/.test(document.querySelector('#broken .copy')"
                          ".textContent) && document.querySelector('#broken .copy').textContent")
    assert said
    chromium.size(1400, 500)  # the grid is far below
    chromium.click("#broken li a")
    chromium.until(OPEN)
    assert chromium.until("['#grid .open', '#story'].every((one) => { const box = "
                          "document.querySelector(one).getBoundingClientRect();"
                          "return box.top >= 0 && box.bottom <= innerHeight; })")
    assert chromium.console() == []


def test_a_copy_over_plain_http_is_made_by_the_old_way(loaded: Browser) -> None:
    loaded.run("Object.defineProperty(navigator, 'clipboard', {value: undefined});"
               "document.execCommand = () => false")
    loaded.click("#broken .copy")
    loaded.until("document.querySelector('#broken .copy').textContent === "
                 "'selected: press Ctrl-C'")
    assert loaded.run("return getSelection().toString()").startswith("bootmatrix run matrices/")


def test_what_is_different_from_another_run_comes_first(
    chromium: Browser, tmp_path: Path
) -> None:
    old, new = [record("bullseye sid"), record("sid trixie")], [failing(), record("sid trixie")]
    old[0]["cell"]["id"] = new[0]["cell"]["id"]
    path = tmp_path / "index.html"
    path.write_text(page(new, lambda told: None, title="T",
                         compared=compare(old, new, than="old.jsonl")))
    chromium.open(path)
    chromium.until(READY)
    told = chromium.run("return document.getElementById('different').innerText")
    assert "worse than old.jsonl: 2 cells: 1 new failure" in told
    chromium.click("#different a")
    chromium.until(OPEN)
    assert "before: passed" in chromium.run("return document.getElementById('story').innerText")


def test_a_refusal_has_one_mark_on_the_map_and_in_the_story(
    chromium: Browser, tmp_path: Path
) -> None:
    """Expected, the cell passes with it; unexpected, the cell is blocked."""
    steps = [failing()["steps"][0],
             {"step": "migrate", "outcome": "refused: machine-type: no", "host": "source"}]
    told = {mark: record(policy=policy, verdict=verdict, reason="refused") | {"steps": steps}
            for mark, policy, verdict in (("✓", "stock", "pass"), ("✗", "reread", "blocked"))}
    for one in told.values():
        one["boots"] = one["boots"][:1]
    path = tmp_path / "index.html"
    path.write_text(page(merged(told.values()), lambda told: None, title="t"))
    for mark, one in told.items():
        chromium.open(path, f"#cell={one['cell']['id']}")
        chromium.until(OPEN)
        tile = chromium.run("return document.querySelector('#grid .tile.open').textContent")
        assert tile == f"{mark} {'refused' if mark == '✓' else 'blocked'}"
        texts = chromium.run("return [...document.querySelectorAll('#story svg text')]"
                             ".map((one) => one.textContent)")
        assert texts[-1] == f"{mark} refused"


def test_what_firmware_prints_is_text(loaded: Browser) -> None:
    loaded.press("n")  # the next failure
    loaded.until(OPEN)
    said = loaded.run("return document.querySelector('#story .console:not(.box *)').textContent")
    assert said.replace("\r", "") == HOSTILE.replace("\r", "")
    box = loaded.run("return document.querySelector('#story .box pre').textContent")
    assert box == visible(HOSTILE)
    assert loaded.run("return document.querySelector('#story mark').textContent").startswith(
        "SeaBIOS (version 9.9")
    assert loaded.run("return document.title") == f"A {ATTACK}"
    assert loaded.run("return document.querySelectorAll('#story script, #story img').length") == 0
    assert loaded.console() == []


def test_nothing_is_fetched(report: Path) -> None:
    text = report.read_text()
    assert not re.search(r"""(?:src|href)\s*=\s*["'](?!#)""", text)
    assert "://" not in text.replace("http://www.w3.org/2000/svg", "")
    assert ATTACK not in text


def test_filters_and_search(loaded: Browser) -> None:
    total = len(many())
    assert shown(loaded) == f"{total} cells"
    pick = ("const s = document.querySelector(`[data-axis=${arguments[0]}]`);"
            "s.value = arguments[1]; s.dispatchEvent(new Event('change'));")
    for axis, value, expected in (
        ("policy", "stock", total // 5), ("source", "trixie", total // 4),
        ("scenario", "move", total // 2), ("verdict", "silent", 1),
    ):
        loaded.run(pick, axis, value)
        assert shown(loaded) == f"{expected} of {total} cells", axis
        loaded.run(pick, axis, "")
    loaded.press("/")
    loaded.press("sid machine-owned")
    loaded.until("[...document.querySelectorAll('#grid .tile')].every((one) => "
                 "one.dataset.cell.includes('machine-owned'))")  # the last letter has come
    found = loaded.run("return [...document.querySelectorAll('#grid .tile')]"
                       ".map((one) => one.dataset.cell)")
    assert found
    assert all("sid" in one and "machine-owned" in one for one in found)


def test_filters_are_in_the_address(loaded: Browser, report: Path) -> None:
    address = "return decodeURIComponent(location.hash)"
    loaded.run("const s = document.querySelector('[data-axis=policy]');"
               "s.value = 'guest-owned'; s.dispatchEvent(new Event('change'));")
    loaded.click(".chip[data-outcome=failed]")
    assert loaded.run(address) == "#policy=guest-owned&outcome=failed"
    loaded.open(report, "#policy=guest-owned&outcome=failed&search=sid%20bullseye&source=nowhere")
    loaded.until(READY)
    assert shown(loaded).startswith("1 of ")
    assert loaded.run("return ['[data-axis=policy]', '[data-axis=source]', '#search'].map("
                      "(one) => document.querySelector(one).value)") == [
        "guest-owned", "", "sid bullseye"]
    assert loaded.run("return document.querySelector('.chip[data-outcome=failed]').ariaPressed")
    loaded.click("#grid .tile")
    loaded.until(OPEN)
    assert loaded.run(address).endswith("&policy=guest-owned&outcome=failed&search=sid bullseye")
    loaded.click("#story .close")
    assert loaded.run(address) == "#policy=guest-owned&outcome=failed&search=sid bullseye"


def beside_each_other(
    chromium: Browser, tmp_path: Path, said: dict[str, list[tuple[str, bytes]]]
) -> Any:
    """The rows of a failure's consoles beside those of the run before, "! " where marked."""
    good, bad = record("bullseye sid"), failing()
    good["cell"]["id"] = bad["cell"]["id"]
    path = tmp_path / "index.html"
    path.write_text(page([bad], lambda told: said[told["verdict"]], title="T",
                         compared=compare([good], [bad], than="old.jsonl")))
    chromium.open(path, "#cell=" + bad["cell"]["id"])
    chromium.until(OPEN)
    chromium.click("#story .sides summary")
    rows = ("[...document.querySelectorAll('.beside tbody tr')].map((row) => [...row.children].map("
            "(one) => (one.className ? '! ' : '') + one.textContent))")
    chromium.until(rows + ".length")
    return chromium.run("return " + rows)


def test_consoles_stand_beside_each_other_and_what_differs_is_marked(
    chromium: Browser, tmp_path: Path
) -> None:
    said = {"pass": [("1-source", b"SeaBIOS\r\nBooting\r\n\r\nup <b>boot</b>=1\r\n")],
            "silent": [("1-source", b"noise\r\nSeaBIOS\r\nup <b>boot</b>=2\r\n")]}
    assert beside_each_other(chromium, tmp_path, said) == [
        ["-- 1-source --", "-- 1-source --"], ["! noise", ""], ["SeaBIOS", "SeaBIOS"],
        ["! up <b>boot</b>=2", "! Booting"], ["", "! "], ["", "! up <b>boot</b>=1"]]


def test_consoles_are_compared_qemu_by_qemu_and_without_what_no_two_boots_have_alike(
    chromium: Browser, tmp_path: Path
) -> None:
    said = {"pass": [("1-source", b"up nonce=12 boot=1\n"), ("2-destination", b"SeaBIOS\n")],
            "silent": [("1-source", b"up nonce=345 boot=1\nSeaBIOS...\n"),
                       ("2-destination", b"SeaBIOS..\n"), ("3-source", b"more\n")]}
    assert beside_each_other(chromium, tmp_path, said) == [
        ["-- 1-source --", "-- 1-source --"], ["up nonce=345 boot=1", "up nonce=12 boot=1"],
        ["! SeaBIOS...", ""],
        ["-- 2-destination --", "-- 2-destination --"], ["SeaBIOS..", "SeaBIOS"],
        ["! -- 3-source --", ""], ["! more", ""]]


def test_the_neighbour_s_console_stands_beside_a_failure_s(loaded: Browser, report: Path) -> None:
    loaded.open(report, "#cell=" + failing()["cell"]["id"])
    loaded.until(OPEN)
    assert loaded.run("return document.querySelector('#story .sides summary').textContent") == (
        "beside that of bookworm-to-sid,pc-q35-5.2,guest-owned,migrate-reset,migrate-reset")


def test_the_records_can_be_had(loaded: Browser, tmp_path: Path) -> None:
    loaded.run("window.made = []; URL.createObjectURL = (blob) => { made.push(blob); return '#'; };"
               "document.getElementById('download').click()")
    text = loaded.until("window.made.length && await made[0].text()")
    assert [json.loads(line) for line in text.splitlines()] == merged(many())
    assert loaded.run("return document.getElementById('download').download") == "records.jsonl"


def test_logs_trend_and_job(chromium: Browser, tmp_path: Path) -> None:
    path = tmp_path / "index.html"
    path.write_text(page(
        [failing()], lambda told: [], title="T", job="https://ci/job?a=1&b",
        logs=lambda told: [("1-source/qemu.log", "../runs/r/cells/a%2Cb/1-source/qemu.log")],
        trends=lambda told: [("v1", "pass", "f1", 0.5), (ATTACK, "silent", "f2", None)]))
    chromium.open(path, "#cell=" + failing()["cell"]["id"])
    chromium.until(OPEN)
    assert chromium.run("return [...document.querySelectorAll('a[href]')].map("
                        "(one) => one.getAttribute('href')).filter((one) => one[0] !== '#')") == [
        "https://ci/job?a=1&b", "../runs/r/cells/a%2Cb/1-source/qemu.log"]
    rows = chromium.run("return [...document.querySelectorAll('#story h3')].find((one) => "
                        "one.textContent === 'In earlier runs').nextElementSibling.innerText")
    assert rows.splitlines()[1].split("\t") == ["v1", "pass", "f1", "500 ms"]
    assert rows.splitlines()[2].split("\t")[:3] == [ATTACK, "silent", "f2"]


def test_axes_are_filters_and_headings_only_where_they_tell_something(
    chromium: Browser, tmp_path: Path
) -> None:
    plain: dict[str, Any] = {"arch": "x86_64", "guest": "probe", "cpu": "", "smp": 1, "nic": "none"}
    ask = ("return [[...document.querySelectorAll('[data-axis]')].map((one) => one.dataset.axis),"
           "[...document.querySelectorAll('#grid .group')].map((one) => one.textContent)]")

    def opened(*records: Any) -> list[list[str]]:
        for number, told in enumerate(records):
            told["cell"]["id"] += f",{number}"
        (tmp_path / "index.html").write_text(page(records, lambda told: [], title="axes"))
        chromium.open(tmp_path / "index.html")
        chromium.until(READY)
        return list(chromium.run(ask))

    assert opened(record(), record(**plain)) == [["QEMU"], ["pc-q35-5.2"]]
    linux = plain | {"guest": "linux", "cpu": "max"}
    assert opened(record(**linux)) == [["QEMU"], ["pc-q35-5.2, linux, cpu max"]]
    assert opened(record(), record(**linux)) == [
        ["guest", "cpu", "QEMU"],
        ["pc-q35-5.2, linux, cpu max", "pc-q35-5.2, probe, cpu default"]]
    chromium.run("const s = document.querySelector('[data-axis=cpu]');"
                 "s.value = 'cpu default'; s.dispatchEvent(new Event('change'));")
    assert shown(chromium) == "1 of 2 cells"
    chromium.click("#grid .tile")
    chromium.until(OPEN)
    facts = chromium.run("return document.querySelector('#story .facts').innerText")
    assert "migrate-reset · pc-q35-5.2 · guest-owned · ahci · tcg · probe · cpu default" in facts
    assert chromium.console() == []


def test_by_keyboard_alone(loaded: Browser) -> None:
    loaded.run("document.querySelector('#grid [tabindex=\"0\"]').focus()")
    focus = "return document.activeElement.dataset.cell"
    first = loaded.run(focus)
    loaded.press("right")
    loaded.press("down")
    assert loaded.run(focus) != first
    loaded.press("up")
    loaded.press("left")
    assert loaded.run(focus) == first
    loaded.press("enter")  # two scenarios stand behind it: a list to choose from
    loaded.until("document.querySelector('#story .pick button') === document.activeElement")
    loaded.press("enter")
    loaded.until(OPEN)
    loaded.press("escape")
    assert loaded.run("return document.getElementById('story').hidden")
    assert loaded.run(focus) == first


def test_a_link_to_a_cell_opens_it(loaded: Browser, report: Path) -> None:
    loaded.open(report, "#cell=" + failing()["cell"]["id"].replace(",", "%2C"))
    loaded.until(OPEN)
    loaded.open(report, "#cell=none")
    loaded.until("document.getElementById('story').innerText.includes('No such cell')")


def test_narrow_dark_and_printed(loaded: Browser, report: Path) -> None:
    loaded.size(380, 700)
    loaded.open(report, "#cell=" + failing()["cell"]["id"])
    loaded.until(OPEN)
    wide = loaded.run("return [document.documentElement.scrollWidth, innerWidth]")
    assert wide[0] <= wide[1], "the page is wider than its window"
    box = loaded.run("const b = document.getElementById('story').getBoundingClientRect();"
                     "return [b.left, b.top, b.width, b.height]")
    assert box == [0, 0, 380, 700]
    luminance = ("const [r, g, b] = getComputedStyle(arguments[0] ? document.body : "
                 "document.querySelector('#story')).backgroundColor.match(/\\d+/g);"
                 "return Number(r) + Number(g) + Number(b)")
    assert loaded.run(luminance, True) > 600
    loaded.scheme("dark")
    assert loaded.run(luminance, True) < 150
    assert loaded.pdf().startswith(b"%PDF")


@pytest.mark.parametrize("width", [1000, 1200, 1400])
def test_the_opened_story_fits(chromium: Browser, tmp_path: Path, width: int) -> None:
    bad = failing()
    bad["boots"][0] |= {"expected_disk": "A", "disk": "A", "wall_seconds": 1.4}
    bad["boots"][-1] |= {"expected": "ovmf-4m-snakeoil-2025.02-8+deb13u1", "seconds": 5.0,
                         "rom": f"sha256:{'0123456789abcdef' * 4}", "wall_seconds": 20.6,
                         "step": "guest-flash", "host": "destination"}
    path = tmp_path / "index.html"
    path.write_text(page([bad], lambda told: None, title="T"))
    chromium.size(width, 900)
    chromium.open(path, "#cell=" + bad["cell"]["id"])
    chromium.until(OPEN)
    inside = chromium.run("return [...document.querySelectorAll('#story, #story .scroll')].map("
                          "(one) => [one.scrollWidth, one.clientWidth])")
    assert all(wide <= there for wide, there in inside), inside


@pytest.mark.parametrize("width", [1000, 1200])
def test_what_differs_fits(chromium: Browser, tmp_path: Path, width: int) -> None:
    good, bad = record("bullseye sid"), failing()
    good["cell"]["id"] = bad["cell"]["id"] = "a-cell,pc-q35-5.2,stock,migrate-reset-by-triple-fault"
    bad["reason"] += ", which takes a sentence to say, and a second one, and then a third" * 3
    path = tmp_path / "index.html"
    path.write_text(page([bad], lambda told: None, title="T",
                         compared=compare([good], [bad], than="old.jsonl")))
    chromium.size(width, 900)
    chromium.open(path)
    chromium.until("document.querySelector('#different .scroll td')")
    wide, there = chromium.run("const one = document.querySelector('#different .scroll');"
                               "return [one.scrollWidth, one.clientWidth]")
    assert wide <= there


def test_every_text_has_contrast_in_light_and_dark(loaded: Browser) -> None:
    script = """
        const light = (css) => { const [r, g, b] = css.match(/[\\d.]+/g).map((x) => {
            x /= 255; return x <= 0.03928 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4; });
            return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
        return [...document.querySelectorAll('.chip, .tile')].map((one) => {
            const css = getComputedStyle(one), a = light(css.color), b = light(css.backgroundColor);
            return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05); })"""
    for scheme in ("light", "dark"):
        loaded.scheme(scheme)
        assert min(loaded.run(script)) >= 4.5, scheme  # WCAG 2.1, 1.4.3


def test_logs_that_are_gone_are_said_to_be(loaded: Browser) -> None:
    loaded.run("location.hash = '#cell=' + document.querySelector('#grid .o-passed').dataset.cell")
    loaded.until(OPEN)
    assert "not beside the records" in loaded.run(
        "return document.getElementById('story').innerText")


def test_a_copy_of_records_tells_where_the_logs_are(chromium: Browser, tmp_path: Path) -> None:
    path = tmp_path / "index.html"
    told = failing() | {"run": "runs/7", "artifacts": "cells/m/<b>x"}
    path.write_text(page([told], lambda record: None, title="T"))
    chromium.open(path)
    chromium.until(READY)
    chromium.run("location.hash = '#cell=' + document.querySelector('#grid .tile').dataset.cell")
    chromium.until(OPEN)
    assert "The run had them in runs/7/cells/m/<b>x." in chromium.run(
        "return document.getElementById('story').innerText")


def test_a_long_console_keeps_both_ends(tmp_path: Path) -> None:
    place = tmp_path / "cells/x/1-source"
    place.mkdir(parents=True)
    (place / "console.log").write_bytes(b"first" + b"x" * 1_000_000 + b"last")
    told: Any = {"run_dir": str(tmp_path), "artifacts": "cells/x"}
    found = consoles(told)
    assert found is not None
    ((_, said),) = found
    assert said.startswith(b"first")
    assert said.endswith(b"last")
    assert len(said) < 100_000


def test_the_embedded_index_cannot_leave_its_element(report: Path) -> None:
    text = report.read_text()
    (index,) = re.findall(r'id="index">(.*?)</script>', text, re.DOTALL)
    assert "<" not in index
    assert any("<b>" in word for word in json.loads(index)["words"])
