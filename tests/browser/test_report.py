"""The sample browser of a report, in Chromium: python test_report.py FOLDER

FOLDER holds reports made by the program (tests/report_browser.rs makes them): demo/, boxes/, hostile-0/, hostile-1/, paged/,
large/. What each page must show is computed here, independently, from the data that the page carries.
"""

import io
import json
import pathlib
import re
import sys
import time
import traceback
from urllib.parse import quote, unquote

from browser import Failed, check_width, chromium, url_of, watched
from PIL import Image

RIGHT, PARTLY, WRONG, UNPARSED, UNSCORED, FAILED = range(6)
PER_PAGE = 20


class Data:
    """The samples of a page as its data tell them."""

    def __init__(self, path):
        html = pathlib.Path(path).read_text(encoding="utf-8")
        found = re.findall(r'<script id="sample-data" type="application/json">(.*?)</script>', html, re.S)
        assert len(found) == 1, f"{len(found)} elements of data in {path}"
        self.raw = json.loads(found[0])
        text = lambda place: None if place < 0 else self.raw["strings"][place]
        self.samples = []
        for order, sample in enumerate(self.raw["samples"]):
            answers = [
                {"package": a[0], "mark": a[1], "text": text(a[2]), "parsed": text(a[3]), "score": a[4], "failure": text(a[5]), "box": a[6]}
                for a in sample[11]
            ]
            self.samples.append(
                {
                    "benchmark": self.raw["benchmarks"][sample[0]][0], "key": sample[1], "category": text(sample[2]),
                    "images": [text(name) for name in sample[3]], "question": text(sample[6]), "reference": text(sample[7]),
                    "region": sample[8], "size": sample[9], "tier": sample[10], "order": order, "answers": answers,
                }
            )
        self.samples.sort(key=lambda sample: (sample["tier"], sample["order"]))

    def fitting(self, outcome="", benchmark="", category="", pair=None, search=""):
        return [s for s in self.samples if fits(s, outcome, benchmark, category, pair, search)]


def fits(sample, outcome, benchmark, category, pair, search):
    answers = sample["answers"]
    if pair:
        answers = [a for package in pair for a in answers if a["package"] == package]
        if len(answers) < 2:
            return False
    if benchmark and sample["benchmark"] != benchmark or category and sample["category"] != category:
        return False
    said = [sample["key"], sample["question"], sample["reference"] or "", sample["category"] or "", *sample["images"]]
    for answer in sample["answers"]:
        said += [answer["text"], answer["parsed"] or "", answer["failure"] or ""]
    if not all(term in "\n".join(said).lower() for term in search.lower().split()):
        return False
    marks, base = [a["mark"] for a in answers], answers[0]["score"]
    others = [a["score"] for a in answers[1:] if a["score"] is not None] if base is not None else []
    scored = [mark for mark in marks if mark != UNSCORED]
    return {
        "": True,
        "broken": any(score < base for score in others),
        "fixed": any(score > base for score in others),
        "differs": any(score != base for score in others),
        "wrong": any(mark in (WRONG, PARTLY, UNPARSED) for mark in marks),
        "unparsed": UNPARSED in marks,
        "failed": FAILED in marks,
        "unscored": UNSCORED in marks,
        "right": bool(scored) and all(mark == RIGHT for mark in scored),
    }[outcome]


def shown(page):
    """Benchmark and key of the cards in the list, by their links."""
    links = page.eval_on_selector_all("#sample-cards a.key", "links => links.map(link => link.getAttribute('href'))")
    return [unquote(link.split("sample=", 1)[1]) for link in links]


def names(samples):
    return [f"{sample['benchmark']}/{sample['key']}" for sample in samples]


def equal(found, expected, what):
    if found != expected:
        raise Failed(f"{what}: expected {expected!r}, found {found!r}")


def promised(page, select):
    """Value → count of the options of a list."""
    options = page.eval_on_selector_all(f"{select} option", "options => options.map(option => [option.value, option.textContent])")
    return {value: int(label[label.rindex("(") + 1 : -1].replace("\u202f", "")) for value, label in options}


def search(page, words):
    page.fill("#filter-search", words)
    page.wait_for_function("words => decodeURIComponent((location.hash.match(/(?:#|&)q=([^&]*)/) || ['', ''])[1]) === words", arg=words)


def test_filters(browser, folder):
    path = folder / "demo/index.html"
    data = Data(path)
    with watched(browser, url_of(path)) as page:
        equal(shown(page), names(data.samples[:PER_PAGE]), "the first list")
        outcomes = promised(page, "#filter-outcome")
        equal(outcomes, {outcome: len(data.fitting(outcome)) for outcome in outcomes}, "counts of the outcomes")
        assert {"differs", "broken", "fixed", "wrong", "right", "failed", "unparsed"} <= set(outcomes)
        assert sum(count > 0 for count in outcomes.values()) >= 6, outcomes
        for outcome in outcomes:
            page.select_option("#filter-outcome", outcome)
            expected = data.fitting(outcome)
            equal(shown(page), names(expected[:PER_PAGE]), f"outcome {outcome!r}")
            if outcome and expected:
                said = page.inner_text("#sample-count")
                assert f"{len(expected)} of {len(data.samples)} samples fit".replace("\u202f", "") in said.replace("\u202f", ""), said
        page.select_option("#filter-outcome", "")
        for benchmark in {sample["benchmark"] for sample in data.samples}:
            page.select_option("#filter-benchmark", benchmark)
            equal(shown(page), names(data.fitting(benchmark=benchmark)[:PER_PAGE]), f"benchmark {benchmark}")
            counts = promised(page, "#filter-category")
            for category in counts:
                equal(counts[category], len(data.fitting(benchmark=benchmark, category=category)), f"count of {category!r}")
            page.select_option("#filter-category", "object")
            page.select_option("#filter-outcome", "broken")
            equal(shown(page), names(data.fitting("broken", benchmark, "object")[:PER_PAGE]), "three filters at once")
            equal(promised(page, "#filter-outcome")["fixed"], len(data.fitting("fixed", benchmark, "object")), "counts follow the other filters")
            page.select_option("#filter-outcome", "")
        page.click("#filter-clear")
        equal(shown(page), names(data.samples[:PER_PAGE]), "after Clear")


def test_pairs(browser, folder):
    path = folder / "demo/index.html"
    data = Data(path)
    with watched(browser, url_of(path)) as page:
        for pair in ((0, 1), (0, 2), (1, 2)):
            page.select_option("#filter-pair", f"{pair[0]}-{pair[1]}")
            for outcome in ("broken", "fixed", "right"):
                page.select_option("#filter-outcome", outcome)
                expected = data.fitting(outcome, pair=pair)
                equal(shown(page), names(expected[:PER_PAGE]), f"{outcome} from package {pair[0]} to {pair[1]}")
            rows = page.locator("#sample-cards article").first.locator("table.answers th").all_inner_texts()
            equal(rows, [data.raw["packages"][package] for package in pair], "the packages shown")


def test_search(browser, folder):
    path = folder / "demo/index.html"
    data = Data(path)
    with watched(browser, url_of(path)) as page:
        some = data.samples[-1]
        for words in ("orange", "sign k3p", some["key"].upper(), "scene_0003.png", "ATTRIBUTE white"):
            search(page, words)
            expected = data.fitting(search=words)
            assert expected, words
            equal(shown(page), names(expected[:PER_PAGE]), f"searching {words!r}")
        search(page, "no such words (anywhere)")
        equal(shown(page), [], "searching for nothing there is")
        assert "No sample fits" in page.inner_text("#sample-count")
        equal(page.get_attribute("#sample-count", "aria-live"), "polite", "the count is announced")
        page.press("#filter-search", "Escape")
        page.wait_for_function("document.querySelectorAll('#sample-cards article').length === 20")


def test_deep_links(browser, folder):
    path = folder / "demo/index.html"
    data = Data(path)
    some = data.samples[137]
    address = "#sample=" + quote(f"{some['benchmark']}/{some['key']}")
    with watched(browser, url_of(path) + address) as page:
        card = page.locator("#sample-cards article.current")
        equal(card.locator("a.key").inner_text(), some["key"], "the sample that the link names")
        assert card.evaluate("card => card === document.activeElement && card.querySelector('details').open"), "it is open and has the focus"
        box = card.bounding_box()
        assert 0 <= box["y"] < 200, f"it is scrolled to: {box}"
    # With filters that leave it, and with filters that hide it.
    with watched(browser, url_of(path) + f"#benchmark={quote(some['benchmark'])}&" + address[1:]) as page:
        equal(page.input_value("#filter-benchmark"), some["benchmark"], "the filter of the link")
        equal(page.locator("article.current a.key").inner_text(), some["key"], "the sample within the filter")
    with watched(browser, url_of(path) + "#q=nothing-like-it&" + address[1:]) as page:
        equal(page.locator("article.current a.key").inner_text(), some["key"], "the sample that its own link would hide")
        equal(page.input_value("#filter-search"), "", "the search gives way")
    with watched(browser, url_of(path) + "#sample=pico-vqa/none%20of%20these") as page:
        assert "There is no sample pico-vqa/none of these here" in page.inner_text("#sample-count")
        equal(len(shown(page)), PER_PAGE, "the list is shown all the same")
    for broken in ("#sample=%E0%A4%A", "#outcome=constructor", "#page=-3", "#pair=9-1", "#benchmark=nowhere", "#__proto__=1", "#toString=x"):
        with watched(browser, url_of(path) + broken) as page:
            assert page.inner_text("#sample-count") != ""


def test_back_and_forward(browser, folder):
    path = folder / "demo/index.html"
    data = Data(path)
    with watched(browser, url_of(path)) as page:
        some = next(s["benchmark"] for s in data.fitting("fixed") if len(data.fitting("fixed", s["benchmark"])) > 2)
        page.select_option("#filter-outcome", "fixed")
        page.select_option("#filter-benchmark", some)
        link = page.locator("#sample-cards a.key").nth(2)
        name = shown(page)[2]
        link.click()
        equal(unquote(page.evaluate("location.hash")), f"#sample={name}", "the address of the sample")
        page.click("nav[aria-label='Sections'] a[href='#accuracy']")
        page.go_back()
        page.wait_for_selector("article.current")
        page.go_back()
        page.wait_for_function("name => document.getElementById('filter-benchmark').value === name", arg=some)
        equal(shown(page), names(data.fitting("fixed", some)[:PER_PAGE]), "back at two filters")
        page.go_back()
        page.wait_for_function("document.getElementById('filter-benchmark').value === ''")
        equal(shown(page), names(data.fitting("fixed")[:PER_PAGE]), "back at one filter")
        page.go_back()
        page.wait_for_function("document.getElementById('filter-outcome').value === ''")
        page.go_forward()
        page.wait_for_function("document.getElementById('filter-outcome').value === 'fixed'")
        equal(shown(page), names(data.fitting("fixed")[:PER_PAGE]), "forward again")
        page.reload()
        equal(shown(page), names(data.fitting("fixed")[:PER_PAGE]), "the same after loading again")


def current(page):
    return page.locator("article.current a.key").inner_text()


def test_keyboard(browser, folder):
    path = folder / "demo/index.html"
    data = Data(path)
    with watched(browser, url_of(path)) as page:
        keys = [sample["key"] for sample in data.samples]
        page.keyboard.press("j")
        equal(current(page), keys[0], "j goes to the first sample")
        page.keyboard.press("j")
        page.keyboard.press("ArrowDown")
        equal(current(page), keys[2], "j and the arrow go on")
        page.keyboard.press("k")
        equal(current(page), keys[1], "k goes back")
        assert page.locator("article.current").evaluate("card => getComputedStyle(card).outlineStyle") != "none", "the focus is seen"
        page.keyboard.press("Enter")
        assert page.locator("article.current details").evaluate("details => details.open"), "Enter opens"
        assert "sample=" in page.evaluate("location.hash")
        page.keyboard.press("Enter")
        assert not page.locator("article.current details").evaluate("details => details.open"), "Enter closes again"
        page.keyboard.press("Escape")
        equal(page.locator("article.current").count(), 0, "Esc leaves the sample")
        page.keyboard.press("n")
        equal(current(page), keys[PER_PAGE], "n turns to the next part of the list")
        page.keyboard.press("k")
        equal(current(page), keys[PER_PAGE - 1], "k turns back, to the last of the part before")
        page.keyboard.press("j")
        equal(current(page), keys[PER_PAGE], "and j forth")
        page.keyboard.press("p")
        equal(current(page), keys[0], "p turns back to the first")
        page.keyboard.press("/")
        equal(page.evaluate("document.activeElement.id"), "filter-search", "/ goes to the search")
        page.keyboard.type("jk?/ n")
        equal(page.input_value("#filter-search"), "jk?/ n", "letters typed are letters")
        page.keyboard.press("Escape")
        page.keyboard.type("orange")
        page.keyboard.press("Enter")
        equal(current(page), data.fitting(search="orange")[0]["key"], "Enter in the search goes to the first that fits")
        page.keyboard.press("?")
        assert page.locator("#keys-dialog").is_visible(), "? shows the keys"
        page.keyboard.press("j")
        page.keyboard.press("Escape")
        assert page.locator("#keys-dialog").is_hidden()
        equal(current(page), data.fitting(search="orange")[0]["key"], "keys do nothing behind a dialog")


def test_tab_alone(browser, folder):
    path = folder / "demo/index.html"
    with watched(browser, url_of(path)) as page:
        page.focus("#filter-search")
        reached = []
        for _ in range(14):
            page.keyboard.press("Tab")
            reached.append(
                page.evaluate(
                    """() => { const at = document.activeElement, style = getComputedStyle(at);
                         const name = at.id || at.className || at.tagName.toLowerCase();
                         return [name, style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 1]; }"""
                )
            )
        found = [name for name, _ in reached]
        for expected in ("filter-outcome", "filter-benchmark", "filter-category", "filter-pair", "keys-open", "enlarge", "key", "summary"):
            assert expected in found, f"{expected} is not reached with Tab: {found}"
        unseen = [name for name, seen in reached if not seen]
        equal(unseen, [], "what has the focus without showing it")
        page.locator("button.enlarge").first.focus()
        page.keyboard.press("Enter")
        assert page.locator("#zoom-dialog").is_visible(), "Enter on the image enlarges it"
        page.keyboard.press("Escape")
        assert page.locator("#zoom-dialog").is_hidden(), "Esc closes it"
        assert page.evaluate("document.activeElement === document.querySelector('button.enlarge')"), "the focus returns"


def test_zoom(browser, folder):
    path = folder / "demo/index.html"
    with watched(browser, url_of(path)) as page:
        page.select_option("#filter-benchmark", "pico-ref")
        small = page.locator("button.enlarge").first
        before = small.bounding_box()
        boxes = small.locator("rect.box:not(.box-under)").count()
        assert boxes >= 2
        small.click()
        large = page.locator("#zoom-body > svg")
        after = large.bounding_box()
        assert after["width"] > 2 * before["width"], (before, after)
        equal(large.locator("rect.box:not(.box-under)").count(), boxes, "boxes on the enlarged image")
        page.mouse.click(5, 5)
        assert page.locator("#zoom-dialog").is_hidden(), "a click beside it closes it"
        page.keyboard.press("j")
        page.keyboard.press("z")
        assert page.locator("#zoom-dialog").is_visible(), "z enlarges the current sample's image"


def red(screenshot):
    """Left, top, right, bottom of what is pure red in a picture, right and bottom excluded."""
    picture = Image.open(io.BytesIO(screenshot)).convert("RGB")
    channels = picture.split()
    masks = [channels[0].point(lambda v: 255 if v > 235 else 0), *(c.point(lambda v: 255 if v < 20 else 0) for c in channels[1:])]
    mask = Image.composite(masks[0], Image.new("L", picture.size), Image.composite(masks[1], Image.new("L", picture.size), masks[2]))
    return mask.getbbox()


def test_boxes_are_at_the_right_pixels(browser, folder):
    """Pictures of a red rectangle, which is the reference; the predicted boxes are (see tests/report_browser.rs) the same,
    half of it, one that reaches out of the image, and one whose corners are swapped. The boxes must lie where the red is on
    the screen, whatever the sizes, ratios and zooms."""
    path = folder / "boxes/index.html"
    data = Data(path)
    for width, scale in ((1280, 1), (390, 3)):
        with watched(browser, url_of(path), width=width, device_scale_factor=scale) as page:
            for place, sample in enumerate(data.samples):
                card = page.locator("#sample-cards article").nth(place)
                check_boxes(page, card.locator("button.enlarge svg"), sample, scale)
                card.locator("button.enlarge").click()
                check_boxes(page, page.locator("#zoom-body > svg"), sample, scale)
                page.keyboard.press("Escape")


def check_boxes(page, drawn, sample, scale):
    width, height = sample["size"]
    drawn.scroll_into_view_if_needed()
    frame = drawn.bounding_box()
    factor = min(frame["width"] / width, frame["height"] / height)
    # A ratio that does not fit is centred.
    left = frame["x"] + (frame["width"] - width * factor) / 2
    top = frame["y"] + (frame["height"] - height * factor) / 2

    expected = [sample["region"], *(answer["box"] for answer in sample["answers"])]
    rectangles = drawn.locator("rect.box:not(.box-under)")
    equal(rectangles.count(), len(expected), "boxes drawn")
    patterns = [rectangles.nth(index).get_attribute("stroke-dasharray") for index in range(len(expected))]
    equal(len(set(patterns[:3])), 3, "patterns of the lines differ")
    strokes = [rectangles.nth(index).evaluate("rect => getComputedStyle(rect).stroke") for index in range(3)]
    if "none" in strokes or len(set(strokes)) != 3:
        raise Failed(f"colours of the boxes: {strokes}")
    letters = drawn.locator("text.flag-letter").all_text_contents()
    equal(letters[:3], ["R", "A", "B"], "letters on the boxes")
    for index, (x1, y1, x2, y2) in enumerate(expected):
        # Without the line's own width: the geometry of the element, through the screen's transformation.
        found = rectangles.nth(index).evaluate(
            """rect => { const at = rect.getScreenCTM(), box = rect.getBBox();
                 const a = new DOMPoint(box.x, box.y).matrixTransform(at), b = new DOMPoint(box.x + box.width, box.y + box.height).matrixTransform(at);
                 return [a.x, a.y, b.x, b.y]; }"""
        )
        x1, x2 = sorted(min(max(x, 0), width) for x in (x1, x2))
        y1, y2 = sorted(min(max(y, 0), height) for y in (y1, y2))
        wanted = [left + x1 * factor, top + y1 * factor, left + x2 * factor, top + y2 * factor]
        if any(abs(a - b) > 0.5 for a, b in zip(found, wanted)):
            raise Failed(f"box {index} of {sample['key']}: expected {wanted}, found {found}")

    # And the picture below them: hide the boxes, and see where the red is.
    drawn.evaluate("s => s.querySelectorAll('rect, text').forEach(e => { e.style.visibility = 'hidden'; })")
    seen = red(page.screenshot(clip=frame))
    drawn.evaluate("s => s.querySelectorAll('rect, text').forEach(e => { e.style.visibility = ''; })")
    x1, y1, x2, y2 = sample["region"]
    wanted = [(left - frame["x"] + x1 * factor), (top - frame["y"] + y1 * factor), (left - frame["x"] + x2 * factor), (top - frame["y"] + y2 * factor)]
    # The picture is smoothed as it is scaled: an edge may move by a pixel of the thumbnail or of the screen, whichever is larger.
    slack = max(1.5 / scale, 1.5 * factor * max(1, max(width, height) / 512))
    if seen is None or any(abs(a / scale - b) > slack for a, b in zip(seen, wanted)):
        raise Failed(f"the red of {sample['key']} is at {seen} / {scale}, and the box at {wanted}")


def test_words_that_differ_are_marked(browser, folder):
    path = folder / "demo/index.html"
    data = Data(path)
    with watched(browser, url_of(path)) as page:
        page.select_option("#filter-outcome", "broken")
        samples = data.fitting("broken")[:PER_PAGE]
        marked = 0
        for place, sample in enumerate(samples):
            cells = page.locator("#sample-cards article").nth(place).locator("td.said")
            for index, answer in enumerate(sample["answers"]):
                if answer["failure"] is not None or not answer["text"].strip():
                    continue
                said, marks = cells.nth(index).evaluate(
                    """cell => { const bdi = cell.querySelector("bdi").cloneNode(true);
                         const marks = [...bdi.querySelectorAll("mark")].map(mark => mark.textContent);
                         bdi.querySelectorAll("del").forEach(gone => gone.remove());
                         return [bdi.textContent, marks]; }"""
                )
                equal(said, answer["text"], "an answer without its struck words is the answer")
                differs = answer["text"].lower() != sample["answers"][0]["text"].lower()
                equal(bool(marks), differs, f"marks in {answer['text']!r} against {sample['answers'][0]['text']!r}")
                marked += bool(marks)
        assert marked >= 10
        style = page.locator("#sample-cards mark").first.evaluate("mark => getComputedStyle(mark).textDecorationLine")
        equal(style, "underline", "a mark is seen without colour")


def test_without_scripts(browser, folder):
    path = folder / "demo/index.html"
    data = Data(path)
    with watched(browser, url_of(path), scripts=False) as page:
        cards = page.locator("#sample-cards article")
        assert cards.count() >= 6
        texts = cards.all_inner_texts()
        by_key = {sample["key"]: sample for sample in data.samples}
        for said in texts:
            sample = next(sample for key, sample in by_key.items() if key in said)
            assert sample["question"].split("\n")[0] in said
            for answer in sample["answers"]:
                assert (answer["failure"] or answer["text"]) in said and data.raw["packages"][answer["package"]] in said
        assert page.locator("#sample-filters").is_hidden()
        assert "scripts" in page.inner_text("noscript")


def test_hostile_texts_are_inert(browser, folder):
    """Everything that shows a text is used, with payloads in every field; the watch fails on any act."""
    for number in (0, 1):
        path = folder / f"hostile-{number}/index.html"
        data = Data(path)
        with watched(browser, url_of(path)) as page:
            for element in page.locator("details:not([open]) > summary").all():
                if element.is_visible():
                    element.click()
            for select in ("#filter-benchmark", "#filter-category", "#filter-outcome", "#filter-pair"):
                for value in page.eval_on_selector_all(f"{select} option", "options => options.map(option => option.value).slice(0, 8)"):
                    page.evaluate(
                        """([select, value]) => { const list = document.querySelector(select); list.value = value;
                             list.dispatchEvent(new Event("change", {bubbles: true})); }""",
                        [select, value],
                    )
                page.evaluate("document.getElementById('filter-clear').click()")
            for element in page.locator("button.enlarge").all()[:3]:
                element.click()
                page.keyboard.press("Escape")
            for sample in data.samples[: 12 if number == 0 else 3]:
                page.fill("#filter-search", sample["question"])
                page.press("#filter-search", "Enter")
                assert page.locator("#sample-cards article").count() >= 1, sample["question"]
                page.keyboard.press("Enter")
                page.keyboard.press("Escape")
            # What is asked for is found word for word, and nothing was made of it but text.
            equal(page.locator("#samples :is(img, iframe, object, embed, video, base, meta, link)").count(), 0, "elements made of texts")
            foreign = page.eval_on_selector_all("a", "links => links.map(link => link.getAttribute('href')).filter(href => !/^(#|samples-|index)/.test(href))")
            equal(foreign, [], "links that texts made")
            handlers = page.evaluate("[...document.querySelectorAll('*')].flatMap(e => [...e.attributes]).filter(a => /^on/i.test(a.name)).length")
            equal(handlers, 0, "handlers that texts made")
        payloads = [sample["question"] for sample in data.samples[:12]] + ["<img src=x onerror=document.documentElement.setAttribute('data-pwned',1)>", "javascript:alert(1)"]
        addresses = []
        for payload in payloads if number == 0 else payloads[:1]:
            hostile = quote(payload, safe="")
            addresses += [f"#q={hostile}", f"#sample={hostile}", f"#outcome={hostile}&benchmark={hostile}&category={hostile}&pair={hostile}", f"#{hostile}"]
        with watched(browser, url_of(path)) as page:
            for address in addresses:
                page.evaluate("address => { location.hash = address; }", address)
                page.evaluate("new Promise(done => setTimeout(done, 20))")
                assert page.locator("#sample-count").inner_text() != ""
        for address in addresses[:4] + addresses[-4:]:
            with watched(browser, url_of(path) + address) as page:
                assert page.locator("#sample-count").inner_text() != ""


def test_a_report_of_several_pages(browser, folder):
    paths = sorted((folder / "paged").glob("*.html"), key=lambda path: (path.name != "index.html", len(path.name), path.name))
    assert len(paths) >= 3, paths
    for path in paths:
        assert path.stat().st_size <= 5_000_000, f"{path}: {path.stat().st_size} bytes"
    parts = [Data(path) for path in paths]
    found = [name for part in parts for name in names(part.samples)]
    equal(len(found), len(set(found)), "samples that stand on one page only")
    expected = json.loads((folder / "paged/expected.json").read_text())
    equal(len(found), expected["samples"], "samples on all pages")
    with watched(browser, url_of(paths[0])) as page:
        page.select_option("#filter-outcome", "right")
        links = page.locator("nav[aria-label='Pages of samples'] a")
        equal(links.count(), len(paths) - 1, "links to the other pages")
        links.first.click()
        page.wait_for_url(re.compile(r"/samples-2\.html"))
        equal(page.input_value("#filter-outcome"), "right", "the filter goes along")
        equal(shown(page), names(parts[1].fitting("right")[:PER_PAGE]), "samples of the second page")
        check_width(page, 1280)
        last = parts[-1].samples[-1]
        name = f"{last['benchmark']}/{last['key']}"
    for start in (paths[0], paths[1]):
        with watched(browser, url_of(start) + "#sample=" + quote(name)) as page:
            page.wait_for_url(re.compile("/" + re.escape(paths[-1].name)))
            equal(page.locator("article.current a.key").inner_text(), last["key"], f"found from {start.name}")
    with watched(browser, url_of(paths[1]) + "#sample=" + quote("no/such")) as page:
        page.wait_for_url(re.compile(r"/index\.html"))
        assert "There is no sample no/such here" in page.inner_text("#sample-count")


def test_ten_thousand_samples(browser, folder):
    path = folder / "large/index.html"
    data = Data(path)
    everything = sum(len(Data(other).samples) for other in (folder / "large").glob("*.html"))
    equal(everything, 10_000, "samples on all pages")
    began = time.monotonic()
    with watched(browser, url_of(path)) as page:
        loaded = time.monotonic() - began
        paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
        elements = page.evaluate("document.querySelectorAll('#samples *').length")
        assert elements < 4_000, f"{elements} elements for one list of {PER_PAGE} samples"
        times = {}
        for name, act in (
            ("an outcome", lambda: page.select_option("#filter-outcome", "fixed")),
            ("a search", lambda: search(page, "square")),
            ("a page", lambda: page.keyboard.press("n")),
        ):
            before = time.monotonic()
            act()
            page.evaluate("1")
            times[name] = time.monotonic() - before
        # The second page of what is left: some cards, never more than a page of them.
        assert 0 < len(shown(page)) <= PER_PAGE, f"{len(shown(page))} cards shown"
        # Far from what is measured (well below a second), so that a slow machine does not fail it.
        assert loaded < 20 and max(times.values()) < 10, (loaded, times)
        size = path.stat().st_size
        print(
            f"  10,000 samples: {len(data.samples)} in {size:,} bytes, loaded in {loaded:.2f} s (first paint {paint / 1000:.2f} s), "
            + ", ".join(f"{name} {spent:.2f} s" for name, spent in times.items())
        )


def main():
    folder = pathlib.Path(sys.argv[1])
    only = sys.argv[2] if len(sys.argv) > 2 else ""
    tests = {name: test for name, test in globals().items() if name.startswith("test_") and only in name}
    failed = 0
    with chromium() as browser:
        for name, test in tests.items():
            began = time.monotonic()
            try:
                test(browser, folder)
                print(f"ok      {name} ({time.monotonic() - began:.1f} s)")
            except Exception as error:  # noqa: BLE001 a test's report, whatever went wrong
                failed += 1
                trace = "" if isinstance(error, Failed) else traceback.format_exc()
                print(f"FAILED  {name}: {error}\n{trace}", file=sys.stderr)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
