"""Records as JUnit XML."""

from __future__ import annotations

from bootmatrix.report.compare import baseline
from bootmatrix.report.decision import decide
from bootmatrix.report.junit import junit
from helpers.records import record


def test_each_case_says_what_it_was_run_on() -> None:
    told = junit([record("bookworm sid", verdict="silent", known="x")
                  | {"known_link": "https://bugs.example/1"}])
    for name, value in (("source.qemu", "7.2.22"), ("source.firmware", "seabios-1.16.2-1"),
                        ("destination.qemu", "11.1.3"),
                        ("destination.firmware", "seabios-1.17.0-1")):
        assert f'<property name="{name}" value="{value}" />' in told
    assert '<skipped message="x (https://bugs.example/1)" />' in told


def test_other_forms_leave_out_what_goes_without_saying() -> None:
    plain = record(arch="x86_64", guest="probe", cpu="", smp=1, nic="none")
    assert junit([plain]) == junit([record()])
    assert '<property name="smp" value="2" />' in junit([record(smp=2)])
    assert baseline([plain]) == baseline([record()])
    assert baseline([record(smp=2)])[0]["cell"]["smp"] == 2
    # A reset is compared with a restart on equal cells, whichever bootmatrix ran them.
    restart = record(scenario="migrate-restart")
    assert [str(row.same) for row in decide([plain, restart])] == ["1 of 1"]
    assert [str(row.same) for row in decide([record(smp=2), restart])] == ["not tried"]
