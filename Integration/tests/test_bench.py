"""The bench still works; how long things take is not looked at here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from common import INTEGRATION, TESTING_SUITE
from contestants import STAND_IN
from proxy import Program

pytestmark = [pytest.mark.one_loop, pytest.mark.martlet("it is about Martlet"), pytest.mark.timeout(180)]


@pytest.mark.parametrize("case", ["prepared, 16 clients", "logins, trust", "scaling, extended"])
def test_the_bench_works(program: Program, tmp_path: Path, case: str) -> None:
    if not (Program.find("pgbouncer").exists() or TESTING_SUITE.exists()):
        pytest.skip("there is no PgBouncer to compare with")
    if "scaling" in case and not STAND_IN.exists():
        pytest.skip("the stand-in is not built: swift build -c release")
    written = tmp_path / "bench.json"
    result = subprocess.run(
        [sys.executable, str(INTEGRATION / "bench.py"), "--quick", "--rounds", "1", "--seconds", "1", "--threads", "1",
         "--martlet", program.command[-1], "--only", case, "--json", str(written)],
        capture_output=True, text=True, timeout=170)
    assert result.returncode == 0, result.stdout + result.stderr
    figures = json.loads(written.read_text())
    results = {result["contestant"]: result["runs"] for each in figures["cases"] for result in each["results"]}
    # The PgBouncer of Debian 12 does not know all settings.
    expected = {"Martlet epoll", figures["yardstick"]} if TESTING_SUITE.exists() else {"Martlet epoll"}
    assert expected <= set(results), result.stdout
    assert all(run["us"] > 0 for runs in results.values() for run in runs)
    assert "ratios to" in result.stdout
