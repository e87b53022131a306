"""Checks any report: python check_page.py INDEX_HTML [FOLDER]. See tests/report_in_browser.sh."""

import os
import pathlib
import sys

from browser import Failed, axe_source, check_accessible, check_width, chromium, url_of, watched

WIDTHS = {"wide": 1440, "tablet": 768, "narrow": 390}


def check(path, folder, screenshots):
    source = axe_source()
    with chromium() as browser, watched(browser, url_of(path)) as page:
        page.watch.check(page)
        for name, width in WIDTHS.items():
            page.set_viewport_size({"width": width, "height": 900})
            check_width(page, width)
            if screenshots:
                shoot(page, folder / f"{name}.png")
        page.set_viewport_size({"width": 1280, "height": 900})
        page.evaluate(source)
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            check_accessible(page, f"{scheme} colours")
            if page.locator("button.enlarge").count():
                page.locator("button.enlarge").first.click()
                check_accessible(page, f"the enlarged image, {scheme} colours", "#zoom-dialog")
                page.keyboard.press("Escape")
        if screenshots:
            for name, width in WIDTHS.items():
                page.set_viewport_size({"width": width, "height": 900})
                shoot(page, folder / f"{name}-dark.png")
            page.emulate_media(color_scheme="light")
            page.pdf(path=folder / "print.pdf", format="A4", print_background=True)
            if (folder / "print.pdf").stat().st_size < 10_000:
                raise Failed("the printed page is all but empty")
        if page.locator("#sample-filters").count():
            check_browsing(page)


def shoot(page, path):
    # Beyond 16,384 px Chromium's pictures repeat themselves.
    height = min(page.evaluate("document.documentElement.scrollHeight"), 16_000)
    size = page.viewport_size
    page.set_viewport_size({"width": size["width"], "height": height})
    page.screenshot(path=path)
    page.set_viewport_size(size)


def check_browsing(page):
    """The filters of whatever samples there are: each outcome leaves as many as it says, and those show it."""
    if page.locator("#sample-filters").is_hidden():
        raise Failed("the page's own script did not run")
    symbols = {"wrong": "✗◐?", "failed": "!", "unparsed": "?", "unscored": "–", "broken": "▼", "fixed": "▲", "right": "✓"}
    for value in page.eval_on_selector_all("#filter-outcome option", "options => options.map(option => option.value)"):
        page.select_option("#filter-outcome", value)
        label = page.locator("#filter-outcome option:checked").inner_text()
        promised = int(label[label.rindex("(") + 1 : -1].replace("\u202f", ""))
        shown = page.locator("#sample-cards article").all_inner_texts()
        if len(shown) != min(promised, 20):
            raise Failed(f"the outcome {label!r} shows {len(shown)} samples")
        for card in shown:
            if not any(symbol in card for symbol in symbols.get(value, "✓◐✗?–!")):
                raise Failed(f"the outcome {label!r} shows a sample without it: {card!r}")
    page.select_option("#filter-outcome", "")


if __name__ == "__main__":
    given = pathlib.Path(sys.argv[1])
    out = pathlib.Path(sys.argv[2] if len(sys.argv) > 2 else given.parent)
    out.mkdir(parents=True, exist_ok=True)
    try:
        check(given, out, os.environ.get("SCREENSHOTS", "1") == "1")
    except Failed as failure:
        sys.exit(f"FAILED: {failure}")
    print(f"ok: nothing on the console, no request, accessible, {given.stat().st_size} bytes")
