"""Pictures of the local page, wide and narrow, light and dark: to be looked at before a change of the page lands.

python docs/screenshots.py runs pictures --data texts/     (needs the extra `dev` and Chromium)
"""

from __future__ import annotations

import argparse
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlencode

from playwright.sync_api import Browser, Page, expect, sync_playwright

WIDTHS = {"wide": 1280, "phone": 380}
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def views(runs: list[str]) -> dict[str, str]:
    """The addresses to be shown, by the names of their pictures."""
    two = runs[-2:]
    pair = [("a", "The teacher sleeps near the house."), ("b", "The teacher sleep near the house.")]
    models = [("m", name) for name in two]
    return {
        "runs": "",
        "run": f"runs/{two[0]}",
        "compare": f"compare?{urlencode([('run', name) for name in two])}",
        "pairs": f"pairs#{urlencode([*pair, *models])}",
        "tokens": f"pairs#{urlencode([*pair, *models, ('by', 'token')])}",
        "words": f"words#{urlencode([('text', 'The teacher'), *models])}",
        "missing": "runs/not-there",
    }


def settle(page: Page, name: str) -> None:
    """Wait until the page shows what it is about."""
    page.wait_for_load_state("load")
    page.wait_for_timeout(300)
    expect(page.locator(".waiting:visible")).to_have_count(0, timeout=120_000)
    if name == "words":
        page.get_by_role("button", name="Write", exact=True).click()
        page.get_by_text("It is done").first.wait_for(timeout=120_000)
    page.wait_for_timeout(700)


def take(browser: Browser, address: str, runs: list[str], folder: Path) -> None:
    """All pictures."""
    for scheme in ("light", "dark"):
        for size, width in WIDTHS.items():
            context = browser.new_context(
                viewport={"width": width, "height": 900},
                color_scheme=scheme,  # type: ignore[arg-type]
                reduced_motion="reduce",
            )
            for name, path in views(runs).items():
                # A page for each: an address that differs in what follows # alone is not loaded anew.
                page = context.new_page()
                page.goto(address + path)
                settle(page, name)
                page.screenshot(path=folder / f"{name}-{size}-{scheme}.png", full_page=True)
                page.close()
            context.close()


def main() -> None:
    """Serve the workspace, take the pictures, stop serving."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("workspace", type=Path)
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--chromium", default=shutil.which("chromium"))
    given = parser.parse_args()
    runs = sorted(path.parent.name for path in given.workspace.glob("*/recipe.toml"))
    given.pictures.mkdir(parents=True, exist_ok=True)
    port = free_port()
    command = [sys.executable, "-m", "firstwords", "serve", "--workspace", str(given.workspace), "--port", str(port)]
    command += ["--data", str(given.data)] if given.data else []
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        address = server.stdout.readline().strip()
        with sync_playwright() as playwright:
            started = time.monotonic()
            browser = playwright.chromium.launch(executable_path=given.chromium, args=list(FLAGS))
            take(browser, address, runs, given.pictures)
            browser.close()
        print(f"{len(list(given.pictures.glob('*.png')))} pictures in {time.monotonic() - started:.0f} s")
    finally:
        server.terminate()
        server.wait(timeout=20)


if __name__ == "__main__":
    main()
