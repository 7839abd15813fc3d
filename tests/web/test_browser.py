"""The page in a real browser: what a person sees, by mouse and by keyboard, wide and narrow."""

from __future__ import annotations

import csv
import io
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.report.conftest import TINY
from tests.web.conftest import HOSTILE, Server

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

REQUIRED = os.environ.get("FIRSTWORDS_REQUIRE_BROWSER") == "1"
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
PATIENCE_MS = 30_000


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium. It may be missing, except where it is said to be required."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        found = None
    if found is None:
        reason = "there is no browser: install chromium, and the package playwright"
        if REQUIRED:
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def server(two_runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The page on a workspace of this module's own, with a run whose name and recipe are hostile."""
    workspace = tmp_path_factory.mktemp("browser") / "runs"
    shutil.copytree(two_runs, workspace)
    shutil.copytree(two_runs / "tiny", workspace / HOSTILE)
    recipe = workspace / HOSTILE / "recipe.toml"
    recipe.write_text(recipe.read_text().replace("A model of the tests", "</script><script>alert(2)</script>"))
    found = Server(workspace)
    yield found
    assert "Traceback" not in found.stop()


class Watch:
    """What goes wrong in a page without being seen: console errors, alerts, requests to anywhere else."""

    def __init__(self, page: Page, own: str) -> None:
        self.wrong: list[str] = []
        self.asked: list[str] = []
        page.on("console", lambda said: self.wrong.append(said.text) if said.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: self.wrong.append(str(error)))
        page.on("dialog", lambda dialog: (self.wrong.append(f"dialog {dialog.message}"), dialog.dismiss()))
        page.on("request", lambda request: self._request(request.url, own))

    def _request(self, url: str, own: str) -> None:
        self.asked.append(url)
        if not url.startswith((own, "blob:", "data:")):
            self.wrong.append(f"asked {url}")


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    found = browser.new_context(viewport={"width": 1280, "height": 900})
    found.set_default_timeout(PATIENCE_MS)
    yield found
    found.close()


@pytest.fixture
def page(context: BrowserContext) -> Page:
    return context.new_page()


def expect_(target: object) -> object:
    from playwright.sync_api import expect

    expect.set_options(timeout=PATIENCE_MS)
    return expect(target)  # type: ignore[call-overload]


def test_the_run_table_shows_every_run(page: Page, server: Server) -> None:
    watch = Watch(page, server.address)
    page.goto(server.address)
    expect_(page.locator("#live")).to_have_text("live")  # type: ignore[attr-defined]
    rows = page.locator("#rows tr")
    assert rows.count() == 3
    assert page.locator("#rows svg polyline").count() == 3
    assert page.get_by_role("link", name=HOSTILE).is_visible()
    assert page.get_by_role("button", name="Compare the chosen").is_disabled()
    page.get_by_role("checkbox", name="Choose tiny", exact=True).check()
    page.get_by_role("checkbox", name="Choose tiny-hot").check()
    page.get_by_role("button", name="Compare the chosen").click()
    verdict = page.locator("#found .verdict")
    expect_(verdict).to_contain_text(re.compile("tiny"))  # type: ignore[attr-defined]
    assert watch.wrong == []


def test_a_report_opens_without_console_errors_or_requests(page: Page, server: Server) -> None:
    watch = Watch(page, server.address)
    page.goto(f"{server.address}runs/tiny")
    page.get_by_role("button", name="Write the report").click()
    page.wait_for_url("**/runs/tiny/report")
    page.reload()
    watch.asked.clear()
    page.reload()
    # The report's own script ran: it alone makes the button seen.
    expect_(page.get_by_role("button", name="Dark colours")).to_be_visible()  # type: ignore[attr-defined]
    assert page.locator("svg.chart").count() > 2
    assert [url for url in watch.asked if "favicon" not in url] == [f"{server.address}runs/tiny/report"]
    assert watch.wrong == []


def test_the_playground_compares_two_models_and_follows_every_change(page: Page, server: Server) -> None:
    watch = Watch(page, server.address)
    page.goto(f"{server.address}pairs#m=tiny&m=tiny-hot&a=The+teacher+sleeps.&b=The+teacher+sleep.")
    verdicts = page.locator(".card .verdict")
    expect_(verdicts).to_have_count(2)  # type: ignore[attr-defined]
    assert page.locator(".card").first.locator(".gloss li").count() == 3
    assert page.locator(".card").first.locator(".piece.differs").all_inner_texts()[0].find("sleeps.") >= 0
    before = verdicts.first.inner_text()
    page.get_by_label("Second sentence").fill("The teacher house house.")
    expect_(verdicts.first).not_to_have_text(before)  # type: ignore[attr-defined]
    expect_(page.locator(".card").first.locator(".gloss li")).to_have_count(4)  # type: ignore[attr-defined]
    page.get_by_text("tokens", exact=True).click()
    expect_(page.locator("#told")).to_contain_text("tiny-hot prefers")  # type: ignore[attr-defined]
    expect_(page.locator(".card").first.locator(".gloss li").nth(4)).to_be_visible()  # type: ignore[attr-defined]
    page.get_by_text("words", exact=True).click()
    expect_(page.locator(".card").first.locator(".gloss li")).to_have_count(4)  # type: ignore[attr-defined]

    with page.expect_download() as download:
        page.get_by_role("button", name="Export as CSV").click()
    rows = list(csv.DictReader(io.StringIO(Path(download.value.path()).read_text(encoding="utf-8"))))
    assert {row["model"] for row in rows} == {"tiny", "tiny-hot"}
    for model in ("tiny", "tiny-hot"):
        own = [row for row in rows if row["model"] == model and row["sentence"] == "B"]
        words = [float(row["surprisal_bits"]) for row in own if row["unit"] == "word"]
        whole = next(float(row["surprisal_bits"]) for row in own if row["unit"] == "sentence")
        assert sum(words) == pytest.approx(whole)

    other = page.context.new_page()
    other.goto(page.url)
    assert other.get_by_label("Second sentence").input_value() == "The teacher house house."
    expect_(other.locator(".card .verdict")).to_have_count(2)  # type: ignore[attr-defined]
    assert watch.wrong == []


def test_a_loaded_pair_says_whether_the_model_is_right(page: Page, server: Server) -> None:
    page.goto(f"{server.address}pairs")
    page.get_by_text("Load a pair of a test set").click()
    page.get_by_label("Test set").select_option("grammar")
    expect_(page.locator("#loaded")).to_contain_text("A is the good sentence")  # type: ignore[attr-defined]
    expect_(page.locator(".verdict")).to_contain_text(re.compile("which is (right|wrong)|neither"))  # type: ignore[attr-defined]
    first = page.get_by_label("First sentence").input_value()
    page.get_by_role("button", name="Next", exact=True).click()
    expect_(page.get_by_label("First sentence")).not_to_have_value(first)  # type: ignore[attr-defined]
    page.get_by_label("First sentence").fill("Another.")
    expect_(page.locator("#gold-a")).to_be_hidden()  # type: ignore[attr-defined]


def test_hostile_sentences_and_links_are_text(page: Page, server: Server) -> None:
    watch = Watch(page, server.address)
    page.goto(
        f"{server.address}pairs#m=tiny&m=%3Cimg+src%3Dx+onerror%3Dalert(3)%3E&a=%3Cscript%3Ealert(1)%3C/script%3E&b=x"
    )
    expect_(page.locator(".gloss").first).to_contain_text("<script>alert(1)</script>")  # type: ignore[attr-defined]
    expect_(page.locator("#models .missing")).to_contain_text("<img src=x")  # type: ignore[attr-defined]
    page.get_by_label("Second sentence").fill("=HYPERLINK(1)")
    expect_(page.locator(".gloss").first).to_contain_text("=HYPERLINK(1)")  # type: ignore[attr-defined]
    with page.expect_download() as download:
        page.get_by_role("button", name="Export as CSV").click()
    assert ",'=HYPERLINK(1)" in Path(download.value.path()).read_text(encoding="utf-8")
    page.goto(f"{server.address}runs/{HOSTILE.replace(' ', '%20')}")
    expect_(page.locator("h1")).to_have_text(HOSTILE)  # type: ignore[attr-defined]
    assert page.locator("main img").count() == 0
    assert watch.wrong == []


def test_next_words_are_taken_up_and_text_is_written(page: Page, server: Server) -> None:
    watch = Watch(page, server.address)
    page.goto(f"{server.address}words#m=tiny&text=The+teacher")
    first = page.locator(".shares button").first
    expect_(first).to_be_visible()  # type: ignore[attr-defined]
    first.click()
    expect_(page.get_by_label("Beginning")).not_to_have_value("The teacher")  # type: ignore[attr-defined]
    page.get_by_label("Tokens").fill("30")
    page.get_by_label("Seed").fill("5")
    page.get_by_role("button", name="Write", exact=True).click()
    expect_(page.locator("#written .card")).to_contain_text("It is done")  # type: ignore[attr-defined]
    assert page.get_by_role("button", name="Write", exact=True).is_enabled()
    assert watch.wrong == []


def test_a_run_is_followed_while_it_trains_and_when_it_is_stopped(page: Page, server: Server, tmp_path: Path) -> None:
    page.goto(server.address)
    expect_(page.locator("#live")).to_have_text("live")  # type: ignore[attr-defined]
    recipe = tmp_path / "watched.toml"
    recipe.write_text(TINY.replace('"tiny"', '"watched"').replace("epochs = 2", "epochs = 400"))
    command = [sys.executable, "-m", "firstwords", "train", str(recipe), "--workspace", str(server.workspace)]
    training = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        row = page.locator('tr[data-run="watched"]')
        expect_(row).to_contain_text("training: step")  # type: ignore[attr-defined]
        expect_(row.locator(".state")).to_have_text("running")  # type: ignore[attr-defined]
        row.get_by_role("checkbox").check()
        before = row.locator(".note").inner_text()
        expect_(row.locator(".note")).not_to_have_text(before)  # type: ignore[attr-defined]
        expect_(row.locator("polyline")).to_have_count(1)  # type: ignore[attr-defined]
        # What is chosen stays so while the row changes.
        assert row.get_by_role("checkbox").is_checked()
    finally:
        training.send_signal(signal.SIGTERM)
        training.wait(timeout=60)
    expect_(row.locator(".state")).to_have_text("stopped")  # type: ignore[attr-defined]
    expect_(page.locator("#told")).to_have_text("watched is stopped")  # type: ignore[attr-defined]
    shutil.rmtree(server.workspace / "watched")
    expect_(row).to_have_count(0)  # type: ignore[attr-defined]


def test_errors_are_shown_with_what_to_do(page: Page, server: Server) -> None:
    gone = server.workspace / "gone"
    shutil.copytree(server.workspace / "tiny", gone)
    page.goto(f"{server.address}pairs#m=gone")
    expect_(page.locator(".verdict")).to_be_visible()  # type: ignore[attr-defined]
    shutil.rmtree(gone)
    page.get_by_label("First sentence").fill("Another sentence.")
    expect_(page.locator(".card .missing")).to_contain_text("there is no model 'gone'")  # type: ignore[attr-defined]
    page.get_by_label("First sentence").fill(" ")
    expect_(page.locator("#results")).to_contain_text("Write both sentences")  # type: ignore[attr-defined]
    page.goto(f"{server.address}words#m=tiny")
    expect_(page.locator(".shares")).to_be_visible()  # type: ignore[attr-defined]
    page.context.set_offline(True)
    page.get_by_label("Beginning").fill("A bird")
    expect_(page.locator(".card .missing")).to_contain_text("the page does not answer")  # type: ignore[attr-defined]
    page.context.set_offline(False)
    page.get_by_role("button", name="Try again").click()
    expect_(page.locator(".shares")).to_be_visible()  # type: ignore[attr-defined]


def test_all_of_it_works_by_keyboard(page: Page, server: Server) -> None:
    page.goto(f"{server.address}pairs")
    expect_(page.locator(".verdict")).to_have_count(1)  # type: ignore[attr-defined]
    page.keyboard.press("Tab")
    assert page.locator(":focus").inner_text() == "To the content"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    focus = page.locator(":focus")
    assert focus.get_attribute("id") == "a"
    page.keyboard.press("Control+A")
    page.keyboard.type("The bird sings.")
    page.keyboard.press("Tab")
    page.keyboard.press("Control+A")
    page.keyboard.type("The bird sing.")
    expect_(page.locator(".gloss").first).to_contain_text("sing.")  # type: ignore[attr-defined]
    seen = []
    for _ in range(6):
        page.keyboard.press("Tab")
        seen.append(page.locator(":focus").get_attribute("value"))
        outline = page.evaluate(
            "() => { const e = document.activeElement.closest('.chip') ?? document.activeElement;"
            " return getComputedStyle(e).outlineStyle }"
        )
        assert outline != "none"
        if seen[-1] == "tiny-hot":
            break
    page.keyboard.press("Space")
    expect_(page.locator(".verdict")).to_have_count(2)  # type: ignore[attr-defined]
    page.goto(server.address)
    page.get_by_role("checkbox", name="Choose tiny", exact=True).focus()
    page.keyboard.press("Space")
    page.get_by_role("checkbox", name="Choose tiny-hot").focus()
    page.keyboard.press("Space")
    page.keyboard.press("Enter")
    page.wait_for_url("**/compare?run=tiny&run=tiny-hot")


@pytest.mark.parametrize("width", [380, 1280])
def test_every_page_fits_its_width_and_every_field_has_a_name(browser: Browser, server: Server, width: int) -> None:
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme="dark")
    context.set_default_timeout(PATIENCE_MS)
    pages = ("", "runs/tiny", "compare?run=tiny&run=tiny-hot", "pairs#m=tiny&m=tiny-hot", "words#m=tiny", "none")
    for address in pages:
        page = context.new_page()
        page.goto(server.address + address)
        expect_(page.locator(".waiting:visible")).to_have_count(0)  # type: ignore[attr-defined]
        page.wait_for_timeout(200)
        assert page.evaluate("() => document.documentElement.scrollWidth") <= width, address
        nameless = page.evaluate(
            "() => [...document.querySelectorAll('input, select, textarea, button')].filter(e => e.checkVisibility() &&"
            " !e.labels?.length && !e.getAttribute('aria-label') && !e.textContent.trim()).map(e => e.outerHTML)"
        )
        assert nameless == [], address
        headings = page.evaluate("() => [...document.querySelectorAll('h1')].length")
        assert headings == 1
        page.close()
    context.close()
