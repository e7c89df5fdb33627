"""The page: everything escaped, nothing from elsewhere, the verdict first, readable numbers."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from calibration.report.page import html_page, write_report
from models.errors import FileError
from tests.calibration.report.results import made_result

_BARE: dict[str, Any] = {"lag": None, "alpha": None, "map": None, "regions": (), "families": ()}


class _Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


_BAD = "<script>alert('x')</script>\" onerror='y' & \x07"


def test_whatever_names_hold_is_text_and_no_markup() -> None:
    page = _Page(
        html_page(
            made_result(
                3,
                participant=_BAD,
                dataset=_BAD,
                target=_BAD,
                split=_BAD,
                verdict=_BAD,
                warnings=(_BAD,),
                notes=(_BAD,),
                by_label={_BAD: 0.5, "b": 0.6},
                facts={_BAD: _BAD, "test_openings": 1},
                settings={_BAD: _BAD},
                **_BARE,
            )
        )
    )
    assert not page.open
    tags = {tag for tag, _ in page.tags}
    assert "script" not in tags
    assert not any(name.startswith("on") for _, given in page.tags for name in given)
    assert "\x07" not in page.text
    assert page.text.count("alert('x')") >= 8


def test_nothing_is_fetched_and_every_figure_says_what_it_shows() -> None:
    page = _Page(html_page(made_result()))
    for tag, given in page.tags:
        assert tag not in ("link", "script", "iframe", "object")
        assert not (given.get("src") or "data:image/png;base64,").startswith(("http", "//", "file"))
        if tag == "img":
            assert len(given["alt"] or "") > 20
    assert sum(tag == "img" for tag, _ in page.tags) == 8


def test_the_verdict_stands_before_the_figures_and_remarks_after_them() -> None:
    text = html_page(made_result(warnings=("Take care.",), notes=("So chosen.",), **_BARE))
    order = [
        text.index(s) for s in ("can be decoded", "<img", "Take care.", "So chosen.", "<table")
    ]
    assert order == sorted(order)


def test_numbers_are_shown_as_they_are_read() -> None:
    page = _Page(html_page(made_result(6, classes=True, **_BARE)))
    assert "0.0005" in page.text  # p, two figures
    assert "0.0004997501" not in page.text
    assert "0.710 to 0.880" in page.text
    assert "2,000" in page.text
    assert "Presentations that were scored" in page.text
    assert "Clips that were scored" not in page.text


def test_a_leaky_result_and_an_undecodable_participant_are_called_so() -> None:
    text = html_page(made_result(leaky=True, decodable=False, **_BARE))
    assert "LEAKY" in text
    assert "class='verdict no'" in text


def test_hundreds_of_remarks_do_not_bury_the_scores() -> None:
    many = tuple(f"Run {k} jitters." for k in range(300))
    text = html_page(made_result(warnings=many, **_BARE))
    assert text.count("jitters") == 20
    assert "and 280 more" in text


def test_both_files_are_written_or_one_sentence_says_why_not(tmp_path: Path) -> None:
    result = made_result(3, **_BARE)
    paths = write_report(result, tmp_path / "new" / "folder")
    assert json.loads(paths[0].read_text())["participant"] == "sub-01"
    assert paths[1].read_text().startswith("<!doctype html>")
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match="Cannot write"):
        write_report(result, tmp_path / "file")
