"""A headless Chromium whose pages are watched: what they say, ask for, and let happen."""

import contextlib
import importlib.util
import os
import pathlib

from playwright.sync_api import sync_playwright

# Every host name fails to resolve; that a page asked is seen all the same.
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--host-resolver-rules=MAP * ~NOTFOUND",
]


class Failed(AssertionError):
    """A page does not do what it should."""


@contextlib.contextmanager
def chromium():
    """The machine's own Chromium."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=os.environ["CHROMIUM"], headless=True, args=ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


class Watch:
    """Everything that a page does to the outside."""

    def __init__(self, page):
        self.console, self.requests, self.dialogs = [], [], []
        page.on("console", lambda message: self.console.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: self.console.append(f"uncaught: {error}"))
        page.on("request", self._request)
        page.on("dialog", self._dialog)
        page.on("popup", lambda popup: self.requests.append(f"a new window: {popup.url}"))

    def _request(self, request):
        if not request.url.startswith(("file:", "data:", "about:", "blob:")):
            self.requests.append(request.url)

    def _dialog(self, dialog):
        self.dialogs.append(f"{dialog.type}: {dialog.message}")
        dialog.dismiss()

    def check(self, page):
        """Fails if the page asked for something, if injected markup acted, or if anything was written to the console."""
        if self.requests:
            raise Failed("the page asked for something over the network: " + "; ".join(sorted(set(self.requests))[:5]))
        if page.evaluate("document.documentElement.hasAttribute('data-pwned')") or self.dialogs:
            raise Failed("injected markup acted: " + "; ".join(self.dialogs))
        if self.console:
            raise Failed("the page wrote to the console: " + "; ".join(self.console[:5]))


@contextlib.contextmanager
def watched(browser, url, width=1280, height=900, scheme="light", scripts=True, **options):
    """An open page and its watch; on leaving, the watch must have seen nothing."""
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme=scheme, java_script_enabled=scripts, **options
    )
    context.set_default_timeout(120_000)
    page = context.new_page()
    watch = page.watch = Watch(page)
    try:
        page.goto(url, wait_until="load")
        page.wait_for_timeout(50)
        yield page
        if scripts:
            watch.check(page)
    finally:
        context.close()


def url_of(path):
    return pathlib.Path(path).resolve().as_uri()


OVERFLOW = """limit => {
  const wide = [];
  for (const element of document.querySelectorAll("body *")) {
    if (wide.length === 5) break;
    const box = element.getBoundingClientRect();
    let inside = element.closest("defs") !== null;
    for (let at = element.parentElement; at !== document.body && !inside; at = at.parentElement) {
      inside = getComputedStyle(at).overflowX !== "visible";
    }
    if (box.right > limit + 0.5 && box.width > 0 && !inside) {
      wide.push(element.tagName.toLowerCase() + "." + element.getAttribute("class") + ": " + element.textContent.slice(0, 40).replace(/[^a-z ]/gi, ""));
    }
  }
  return [document.documentElement.scrollWidth, wide];
}"""


def check_width(page, width):
    """Fails where the page must be scrolled sideways."""
    measured, wide = page.evaluate(OVERFLOW, width)
    if measured > width:
        raise Failed(f"the page is {measured} px wide in a window of {width} px: " + "; ".join(wide))


def axe_source():
    """The text of axe-core, which comes inside a Python package."""
    place = importlib.util.find_spec("axe_playwright_python").submodule_search_locations[0]
    return pathlib.Path(place, "axe.min.js").read_text(encoding="utf-8")


def check_accessible(page, name, part="html"):
    """Fails on findings of axe-core that it calls serious or critical. The page's policy admits no foreign script, so its
    text (`axe_source`) is to be put in by the debugger first, which no policy binds."""
    found = page.evaluate(
        """part => axe.run(part, {resultTypes: ["violations"]}).then(result => result.violations
             .filter(violation => violation.impact === "serious" || violation.impact === "critical")
             .map(violation => violation.id + " (" + violation.help + ") at " +
               violation.nodes.slice(0, 3).map(node => node.target.join(" ") + ": " +
                 node.failureSummary.split("\\n").slice(1, 2).join(" ").trim()).join(" | ") +
               (violation.nodes.length > 3 ? " and " + (violation.nodes.length - 3) + " more" : "")))""",
        part,
    )
    if found:
        raise Failed(f"axe-core finds in {name}: " + "\n  ".join(found))
