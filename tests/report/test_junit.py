"""Records as JUnit XML."""

from __future__ import annotations

from bootmatrix.report.compare import baseline
from bootmatrix.report.decision import decide
from bootmatrix.report.junit import junit
from helpers.records import record


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
