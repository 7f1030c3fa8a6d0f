"""The site lists the newest pages of every dataset, and links that exist."""

import re

from stages.data.data_docs import publish

SOUND = {"passed": 3, "critical": 0, "warnings": 0, "skipped": 1}


def build(folder, name, text):
    page = folder / "validations" / f"{name}-held_out" / name / "2026" / "x.html"
    page.parent.mkdir(parents=True)
    page.write_text(text)
    return folder


def test_every_dataset_is_listed_with_its_newest_pages(tmp_path):
    site = tmp_path / "site"
    site.mkdir()
    publish(build(tmp_path / "a", "cells", "old"), site, "cells", {**SOUND, "critical": 2})
    publish(build(tmp_path / "b", "pets", "pets"), site, "pets", {**SOUND, "warnings": 1})
    index = publish(build(tmp_path / "c", "cells", "new"), site, "cells", SOUND).read_text()
    links = re.findall(r'href="([^"]*)">held out<', index)
    assert [(site / link).read_text() for link in links] == ["new", "pets"]
    assert re.findall(r'class="(\w+)">([^<]*)<', index) == [
        ("passed", "3 passed, 1 skipped"),
        ("warned", "3 passed, 1 warnings, 1 skipped"),
    ]


def test_a_critical_failure_shows(tmp_path):
    (tmp_path / "site").mkdir()
    index = publish(
        build(tmp_path / "a", "pets", ""), tmp_path / "site", "pets", {**SOUND, "critical": 2, "warnings": 1}
    )
    assert 'class="failed">3 passed, 2 critical' in index.read_text()
