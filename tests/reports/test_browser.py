from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from reports.chromium import PROGRAM, browser
from reports.run_folder import Plan, make_run
from tabib.config import Data
from tabib.records import Finding, Findings
from tabib.reports import write_look, write_reports

PHONE, DESK = 390, 1200
MORE_CLASSES = ("آدنوکارسینوم سلول‌های بزرگ با تمایز ضعیف", "a_class_with_a_very_long_name_that_has_no_blank", "c", "d", "e")


@pytest.mark.browser
@pytest.mark.skipif(PROGRAM is None, reason="no Chromium on this machine")
def test_pages_are_quiet_and_fit_phone_and_desk(tmp_path: Path) -> None:
    plans = {"two": Plan(patients=40, films=1), "more": Plan(classes=MORE_CLASSES, patients=90, films=1, patients_known=False)}
    written = [path for name, plan in plans.items() for path in write_reports(*make_run(tmp_path / name, plan))]
    for name, plan in plans.items():
        index = pl.read_parquet(tmp_path / name / "run" / "index.parquet")
        rows = index.filter(pl.col("refused").is_null())["row"].to_list()
        told = Findings(findings=[Finding(code="exact_copies_none", level="warn", figures={"images": 9}, rows=rows)])
        data = Data(folder=tmp_path / name / "films")
        written += [
            write_look(tmp_path / name / f"look.{code}.html", data, index=index, findings=told, code=code) for code in plan.languages
        ]
    with browser(tmp_path / "home") as page:
        for path in written:
            page.width(PHONE)
            page.open(path)
            assert page.value("document.documentElement.scrollWidth") == PHONE
            page.value("document.querySelectorAll('details').forEach(each => each.open = true)")
            assert page.value("document.documentElement.scrollWidth") == PHONE
            page.width(DESK)
            assert page.value("document.documentElement.scrollWidth") == DESK
            assert page.said() == []
            assert [url for url in page.asked_for() if not url.startswith("data:")] == [path.as_uri()]
