"""The HTML page, in a real browser without a network: what one sees, sorts and points at."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from hyperrun.compare import Comparison, Runs, compare, read_runs
from hyperrun.compare.page import inline_svg, page, sort_key
from tests.made_up_runs import made_up_run

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
OWN_BROWSERS = os.environ.get("PLAYWRIGHT_BROWSERS_PATH", str(Path.home() / ".cache" / "ms-playwright"))
"""Where `playwright install` puts its own; found out before the tests get another home."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Return a headless browser, of the system or playwright's own; skip where there is none."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright (the test extra)")
    installed = next(filter(None, map(shutil.which, BROWSERS)), None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PLAYWRIGHT_BROWSERS_PATH", OWN_BROWSERS)
        with sync_api.sync_playwright() as playwright:
            try:  # as root there is no sandbox; the page is our own
                found = playwright.chromium.launch(executable_path=installed, args=["--no-sandbox"])
            except sync_api.Error as error:
                pytest.skip(f"needs a browser (Debian: chromium): {error.message.splitlines()[0]}")
            yield found
            found.close()


class Opened:
    """A page in a browser that has no network, and what went wrong in it."""

    def __init__(self, browser: Browser, file: Path, width: int = 1200) -> None:
        context = browser.new_context(viewport={"width": width, "height": 900}, offline=True)
        self.page: Page = context.new_page()
        self.page.set_default_timeout(10_000)
        self.wrong: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.wrong.append(message.text))
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("dialog", lambda dialog: self.wrong.append(dialog.message))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(file.as_uri())

    def column(self, section: str, heading: str) -> list[str]:
        """Return a column of a section's first table from top to bottom."""
        table = self.page.locator(f"{section} table").first
        heads = [text.strip() for text in table.locator("th").all_inner_texts()]
        cells = table.locator(f"tbody td:nth-child({heads.index(heading) + 1})")
        return [text.strip() for text in cells.all_inner_texts()]

    def head(self, section: str, heading: str) -> Any:
        return self.page.locator(f"{section} table").first.get_by_role("columnheader", name=heading, exact=True)


@pytest.fixture(scope="module")
def file(mixed_outputs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    runs = read_runs([mixed_outputs])
    path = tmp_path_factory.mktemp("page") / "page.html"
    path.write_text(page(runs, compare(runs)), encoding="utf-8")
    return path


@pytest.fixture
def opened(browser: Browser, file: Path) -> Iterator[Opened]:
    opened = Opened(browser, file)
    yield opened
    opened.page.context.close()
    assert opened.wrong == [] and opened.asked == [file.as_uri()], "nothing is asked of anybody"


def test_it_shows_tables_plots_and_what_is_not_finished(opened: Opened) -> None:
    text = opened.page.locator("body").inner_text()
    for words in (
        "12 finished runs in 9 groups of seeds",
        "98.00 ± 1.00 (3)",
        "the loss is not finite",
        "Could not be read",
    ):
        assert words in text
    assert opened.column("#data-0", "model") == ["cnn", "hypercnn z_dim=16", "hypercnn z_dim=4"]
    assert opened.column("#data-1", "paper") == ["", "99.24"]
    pictures = opened.page.locator("svg")
    assert pictures.count() == 6
    for picture in pictures.all():
        size = picture.bounding_box()
        assert size is not None and size["width"] > 400 and size["height"] > 250
    assert opened.page.locator("#data-0 svg text", has_text="hypercnn z_dim=4").count() == 2, (
        "in the plot and the legend"
    )


def test_a_click_sorts_by_value_and_another_turns_it_round(opened: Opened) -> None:
    opened.head("#data-0", "trainable").get_by_role("button").click()
    assert opened.column("#data-0", "trainable") == ["8,000", "21,210", "23,000"]
    assert opened.head("#data-0", "trainable").get_attribute("aria-sort") == "ascending"
    opened.head("#data-0", "trainable").get_by_role("button").click()
    assert opened.column("#data-0", "trainable") == ["23,000", "21,210", "8,000"]
    assert opened.column("#data-0", "model") == ["hypercnn z_dim=16", "cnn", "hypercnn z_dim=4"], "whole rows move"
    assert opened.head("#data-0", "trainable").get_attribute("aria-sort") == "descending"
    opened.head("#data-0", "model").get_by_role("button").press("Enter")
    assert opened.column("#data-0", "model") == ["cnn", "hypercnn z_dim=4", "hypercnn z_dim=16"], "4 comes before 16"
    assert opened.head("#data-0", "trainable").get_attribute("aria-sort") is None
    assert opened.column("#data-2", "test bpc") == ["1.8000 (1)", "2.1000 (1)", "2.2000 (1)", "2.4000 (1)"], "as it was"


def test_empty_cells_stay_last_either_way(opened: Opened) -> None:
    for _ in range(2):
        opened.head("#data-1", "paper").get_by_role("button").click()
        assert opened.column("#data-1", "paper") == ["99.24", ""]


def test_pointing_at_a_row_shows_its_point_and_curves(opened: Opened) -> None:
    def strength(name: str) -> float:
        return float(opened.page.evaluate("id => getComputedStyle(document.getElementById(id)).opacity", name))

    opened.page.locator("#data-0 tr[data-group='2']").first.hover()
    assert strength("p0-point-2") == strength("c0-curve-2-1") == 1
    assert strength("p0-point-0") < 0.5 and strength("c0-curve-0-0") < 0.5
    assert strength("p2-point-0") == 1, "of another data set"
    opened.page.locator("h1").hover()
    assert strength("p0-point-0") == strength("c0-curve-0-0") == 1


def test_the_configs_differences(opened: Opened) -> None:
    rows = opened.page.locator("#data-0 details tr").all_inner_texts()
    assert [row.split() for row in rows] == [
        ["model", "hypernet.kind", "hypernet.z_dim"],
        ["cnn", "none"],
        ["hypercnn", "z_dim=16", "static", "16"],
        ["hypercnn", "z_dim=4", "static", "4"],
    ]


def test_on_a_telephone_only_tables_scroll_sideways(browser: Browser, file: Path) -> None:
    opened = Opened(browser, file, width=375)
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= 375
    assert opened.page.locator("svg").first.bounding_box()["width"] > 300  # type: ignore[index]
    opened.page.context.close()


def test_names_from_a_stranger_run_no_code(browser: Browser, tmp_path: Path) -> None:
    attack = "<img src=x onerror=alert(1)>\"'><script>alert(2)</script>"
    made_up_run(tmp_path / "runs", "model=cnn", model=attack, data=attack)
    made_up_run(tmp_path / "runs", "model=hypercnn", hypernet=attack, data=attack)
    made_up_run(tmp_path / "runs", "model=cnn", "seed=1", status="failed", error=attack)
    runs = read_runs([tmp_path / "runs"])
    (tmp_path / "page.html").write_text(page(runs, compare(runs)), encoding="utf-8")
    opened = Opened(browser, tmp_path / "page.html")
    assert opened.page.locator("img, script").count() == 1, "the page's own script"
    assert attack[:39] in opened.page.locator("#data-0 table").first.inner_text()
    assert opened.wrong == [] and len(opened.asked) == 1
    opened.page.context.close()


# ---------------------------------------------------------------- without a browser


class Ids(HTMLParser):
    """Collects the ids, and what a browser would go and get."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.fetched: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name in ("src", "href", "xlink:href", "srcset", "action") and not (value or "").startswith(
                ("#", "data:")
            ):
                self.fetched.append(value or "")


def test_ids_are_unique_and_nothing_is_fetched(mixed: Runs, comparisons: list[Comparison]) -> None:
    text = page(mixed, comparisons)
    found = Ids()
    found.feed(text)
    assert len(found.ids) == len(set(found.ids)) > 50
    assert found.fetched == [] and "@import" not in text
    referred = set(re.findall(r"url\(#([^)]+)\)|href=\"#([^\"]+)\"", text))
    assert {one or two for one, two in referred} <= set(found.ids), "what refers to an id was renamed with it"
    assert len(text) < 500_000


def test_a_picture_in_a_page_keeps_its_references() -> None:
    svg = b'<?xml?><svg width="1"><metadata>x</metadata><!-- y --><path id="a"/><use xlink:href="#a"/></svg>'
    expected = '<svg role="img" aria-label="a &lt; b" width="1"><path id="p-a"/><use xlink:href="#p-a"/></svg>'
    assert inline_svg(svg, "p-", "a < b") == expected


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("98.61 ± 0.28 (3)", "98.61"),
        ("21,210", "21210"),
        ("4,244 (conv2.weight)", "4244"),
        ("1e-05", "1e-05"),
        ("", ""),
        ("-1.5", "-1.5"),
    ],
)
def test_sort_keys(text: str, key: str) -> None:
    assert sort_key(text) == key


def test_points_crosses_and_curves_say_what_they_are(mixed: Runs, comparisons: list[Comparison]) -> None:
    text = page(mixed, comparisons)
    said = "hypercnn z_dim=16\ntest accuracy % 96.00 (1)\n23,000 trainable parameters\n60 epochs"
    assert f'<g id="p0-point-1"><title>{said}</title>' in text
    assert '<g id="p1-paper-1"><title>the paper&#x27;s figure for mnist_hypercnn: 99.24</title>' in text
    assert '<g id="c0-curve-0-2"><title>cnn\nseed 2</title>' in text


def test_two_tables_of_one_data_set_have_links_of_their_own(tmp_path: Path) -> None:
    made_up_run(tmp_path, "model=cnn")
    made_up_run(tmp_path, "model=hypersiren", metric="psnr", test__psnr=20.0, val__psnr=19.0)
    runs = read_runs([tmp_path])
    assert re.findall(r"<a [^>]*>([^<]*)</a>", page(runs, compare(runs))) == ["digits, accuracy", "digits, psnr"]
