"""The page in a real browser: it keeps to its policy, fits every screen, and refreshes itself."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright
from werkzeug.serving import make_server

from service.store.values import BlockState, Outcome
from tests.parts.projects import BlockFile, open_webhook, write, write_pipeline, write_project
from tests.parts.site import Site, site

CHROMIUM = shutil.which("chromium")
RUN_ROWS = "#runs-title ~ table tbody tr"
PATIENCE_MS = 30_000  # the page asks every 3 s; the machine may be busy

pytestmark = pytest.mark.skipif(
    CHROMIUM is None and not os.environ.get("CI"), reason="there is no chromium on this machine"
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Site]:
    write_project(tmp_path)
    names = ["load_the_trips_of_a_month", "clean", "export_to_the_warehouse"]
    blocks = [BlockFile(name, f"@custom\ndef {name}():\n    return 1\n") for name in names]
    write_pipeline(tmp_path, "etl", blocks, description="A long sentence. " * 8, triggers=[open_webhook()])
    write(tmp_path / "pipelines" / "broken" / "metadata.yaml", "blocks: [\n")
    with site(tmp_path) as made:
        made.enqueue()
        made.finish(
            {names[0]: BlockState.SUCCEEDED, names[1]: BlockState.FAILED}, error="ValueError: no" * 30
        )
        made.record("a", subject="a/very/long/name/" * 10)
        made.record("b", outcome=Outcome.FILTERED, match_reason="the filter said no " * 10)
        yield made


@pytest.fixture
def address(demo: Site) -> Iterator[str]:
    server = make_server("127.0.0.1", 0, demo.app, threaded=True)
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    yield f"http://127.0.0.1:{server.port}/"
    server.shutdown()
    serving.join()
    server.server_close()


def opened(
    browser: Browser, address: str, *, width: int = 1280, theme: str = "light"
) -> tuple[Page, list[str]]:
    """Open the page and return it with the complaints of the browser's console."""
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=theme)  # type: ignore[arg-type]
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(address)
    return page, complaints


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390, 320])
def test_page_fits_the_screen_without_complaints(
    browser: Browser, address: str, width: int, theme: str
) -> None:
    page, complaints = opened(browser, address, width=width, theme=theme)

    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert complaints == []
    page.close()


def test_page_refreshes_itself_and_keeps_the_readers_place(
    browser: Browser, address: str, demo: Site
) -> None:
    page, complaints = opened(browser, address)
    rows = page.locator(RUN_ROWS).count()
    page.locator("#problems summary").click()
    page.locator("#pipeline-1").focus()

    demo.enqueue()

    expect(page.locator(RUN_ROWS)).to_have_count(rows + 1, timeout=PATIENCE_MS)
    expect(page.locator("#pipeline-1")).to_be_focused()
    expect(page.locator("#problems")).to_have_attribute("open", "")
    assert complaints == []
    page.close()


def test_page_says_when_the_service_does_not_answer(browser: Browser, address: str) -> None:
    page, _ = opened(browser, address)

    page.route("**/overview", lambda route: route.abort())
    expect(page.get_by_role("status")).to_contain_text("does not answer", timeout=PATIENCE_MS)

    page.unroute("**/overview")
    expect(page.get_by_role("status")).to_have_text("", timeout=PATIENCE_MS)
    page.close()


def test_first_tab_leads_to_the_content(browser: Browser, address: str) -> None:
    page, _ = opened(browser, address)

    page.keyboard.press("Tab")

    expect(page.get_by_role("link", name="Skip to content")).to_be_focused()
    page.close()
