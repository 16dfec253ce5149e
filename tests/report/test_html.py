"""The page in a real browser, and what can be said of it without one."""

from __future__ import annotations

import base64
import re
import shutil
import time
from io import BytesIO
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from xai_core.report import build, html, previews, tiles
from xai_core.report.summary import Summary

BROWSER, DRIVER = shutil.which("chromium") or shutil.which("google-chrome"), "chromedriver"
FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    "--force-prefers-reduced-motion",  # smooth scrolling moves what is about to be clicked
)
HOSTILE_CLASS = "<script>document.title = 'broken'</script>"
HOSTILE_NET = '"><img src=x onerror="document.title=1">'
METHODS = {"cam": "CAM", "guided_grad_cam": "Guided Grad-CAM", "noise": "Noise"}
SIDE = 64


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if not (BROWSER and shutil.which(DRIVER)):
        pytest.skip("no Chromium with chromedriver on PATH")
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(shutil.which(DRIVER))
    found = webdriver.Chrome(options=options, service=service)
    yield found
    found.quit()


def maps_of(seed: int) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    heat = np.zeros((1, SIDE, SIDE), np.float32)
    heat[0, 10:40, 20:50] = generator.random((30, 30))
    return {
        "cam": heat,
        "guided_grad_cam": np.zeros((3, SIDE, SIDE), np.float32),
        "noise": generator.normal(size=(3, SIDE, SIDE)).astype(np.float32),
    }


@pytest.fixture(scope="module")
def report(tmp_path_factory, make_record) -> Path:
    """Two nets, six images of two classes, with names that want to be HTML."""
    folder = tmp_path_factory.mktemp("run")
    records = []
    generator = np.random.default_rng(0)
    mask = np.zeros((SIDE, SIDE), bool)
    mask[16:40, 16:48] = True
    for net in ("squeezenet1_0", HOSTILE_NET):
        for image in range(6):
            sample = f"{image}-thing"
            previews.save(
                *(folder / previews.FOLDER, net, "224", sample, maps_of(image)),
                *(generator.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8), mask, mask),
            )
            for method in METHODS:
                records.append(
                    make_record(
                        float(generator.random()),
                        net=net,
                        sample=sample,
                        image_id=image,
                        method=method,
                        category=HOSTILE_CLASS if image < 2 else "orange",
                        weights_random=net == HOSTILE_NET,
                    )
                )
    summary = Summary("a run", records, len(records), METHODS)
    build.tables(summary, folder)
    build.pictures(summary, folder)
    return folder


@pytest.fixture
def page(browser, report):
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": 1280, "height": 900, "deviceScaleFactor": 1, "mobile": False},
    )
    browser.get("about:blank")
    browser.get((report / "report.html").as_uri())
    yield browser
    assert [entry["message"] for entry in browser.get_log("browser")] == []


def cells(page, column: int) -> list[str]:
    return page.execute_script(
        "return [...document.querySelectorAll('#record-table tbody tr')]"
        f".map((row) => row.children[{column}].textContent)"
    )


def until(page, script: str) -> None:
    end = time.monotonic() + 5
    while not page.execute_script(f"return {script}"):
        assert time.monotonic() < end, script
        time.sleep(0.02)


def test_it_opens_with_no_error_and_asks_for_nothing(page):
    asked = page.execute_script(
        "return performance.getEntriesByType('resource').map((e) => e.name)"
    )
    assert [name for name in asked if not name.startswith("data:")] == []
    assert page.title.startswith("a run")
    assert len(page.find_elements(By.CSS_SELECTOR, ".paper svg[role=img][aria-label]")) >= 4


def test_names_that_are_html_stay_text(page):
    assert (
        page.execute_script("return document.querySelectorAll('main script, main img').length") == 0
    )
    assert HOSTILE_CLASS in cells(page, 2)
    assert HOSTILE_NET in cells(page, 0)
    assert page.title.startswith("a run")


def test_records_are_filtered(page):
    assert page.find_element(By.ID, "count").text == "36 of 36 records"
    page.find_element(By.NAME, "text").send_keys("guided")
    assert page.find_element(By.ID, "count").text == "12 of 36 records"
    assert set(cells(page, 4)) == {"Guided Grad-CAM"}
    select = page.find_element(By.CSS_SELECTOR, "#record-controls [name=class]")
    select.send_keys("orange")
    assert page.find_element(By.ID, "count").text == "8 of 36 records"
    page.find_element(By.CSS_SELECTOR, "#record-controls [type=reset]").click()
    until(page, "document.getElementById('count').textContent === '36 of 36 records'")


def test_records_are_sorted_by_mouse_and_keyboard(page):
    head = page.find_element(By.XPATH, "//table[@id='record-table']//th[button='P']")
    head.find_element(By.TAG_NAME, "button").click()
    values = [float(text) for text in cells(page, 5)]
    assert values == sorted(values, reverse=True)
    assert head.get_attribute("aria-sort") == "descending"
    head.find_element(By.TAG_NAME, "button").send_keys(Keys.ENTER)
    assert [float(text) for text in cells(page, 5)] == sorted(values)
    assert head.get_attribute("aria-sort") == "ascending"


def canvas(page, selector: str) -> np.ndarray:
    url = page.execute_script(f"return document.querySelector('{selector}').toDataURL('image/png')")
    content = base64.b64decode(url.partition(",")[2])
    return np.asarray(PIL.Image.open(BytesIO(content)).convert("RGB")).astype(int)


@pytest.mark.parametrize("method", METHODS)
def test_maps_have_the_colours_of_the_gallery(page, report, method):
    """The page colours in the browser; `tiles` does it for figures."""
    page.get(f"{(report / 'report.html').as_uri()}#map=squeezenet1_0/3-thing")
    page.refresh()
    at = list(METHODS).index(method) + 3
    selector = f"#detail-maps figure:nth-child({at}) canvas"
    until(page, f"document.querySelector('{selector}')?.width === {SIDE}")
    shown = canvas(page, selector)
    kept = previews.load(report / previews.FOLDER, "squeezenet1_0", "3-thing")
    plain = tiles.colour(kept.maps[method], kept.image).astype(int)
    away = np.ones((SIDE, SIDE), bool)
    away[12:44, 12:52] = False  # where the outline is
    away[20:36, 20:44] = True
    assert np.abs(shown - plain)[away].mean() < 2
    outline = canvas(page, selector)[16, 20:40]
    assert (outline == 255).all()


def test_cards_are_drawn_and_ordered(page):
    page.execute_script("document.getElementById('maps').scrollIntoView()")
    until(page, "document.querySelector('.card canvas').width === 64")
    assert canvas(page, ".card canvas").std() > 0
    order = page.find_element(By.CSS_SELECTOR, "#gallery-controls [name=order]")
    order.send_keys("lowest")
    shown = page.find_elements(By.CSS_SELECTOR, ".card .numbers:nth-of-type(2)")
    values = [float(re.search(r"P ([\d.]+)", element.text)[1]) for element in shown]
    assert values == sorted(values)
    assert len(values) == 6


def test_a_sample_opens_by_keyboard_and_closes(page):
    page.find_element(By.CSS_SELECTOR, ".card").send_keys(Keys.ENTER)
    until(page, "document.getElementById('detail').open")
    first = page.find_element(By.ID, "detail-title").text
    page.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
    assert page.find_element(By.ID, "detail-title").text != first
    assert "map=" in page.current_url
    page.switch_to.active_element.send_keys(Keys.ARROW_LEFT)
    assert page.find_element(By.ID, "detail-title").text == first
    captions = [e.text for e in page.find_elements(By.CSS_SELECTOR, "#detail-maps figcaption")]
    assert len(captions) == 5
    assert captions[3].endswith("all zero")
    assert "±" in captions[4]
    page.switch_to.active_element.send_keys(Keys.ESCAPE)
    until(page, "!document.getElementById('detail').open")


@pytest.mark.parametrize("width", [400, 768])
def test_a_narrow_page_never_scrolls_sideways(page, width):
    page.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": True},
    )
    assert page.execute_script("return document.documentElement.scrollWidth") == width


def test_ten_thousand_records_are_filtered_and_sorted_at_once(browser, make_record, tmp_path):
    generator = np.random.default_rng(0)
    records = [
        make_record(float(p), sample=f"{i:05d}-orange", image_id=i % 500, rank=int(i % 1000) + 1)
        for i, p in enumerate(generator.random(10_000))
    ]
    path = tmp_path / "report.html"
    path.write_text(html.render(Summary("many", records, 10_000, METHODS), [], tmp_path))
    assert path.stat().st_size < 2_000_000
    browser.get(path.as_uri())
    taken = browser.execute_script(
        """
        const find = (selector) => document.querySelector(selector);
        const start = performance.now();
        find('[name=text]').value = '999';
        find('[name=text]').dispatchEvent(new Event('input', { bubbles: true }));
        find('#record-table th:nth-child(6) button').click();
        document.body.getBoundingClientRect();
        return performance.now() - start;
        """
    )
    assert taken < 300
    wanted = sum("999" in record.sample for record in records)
    assert browser.find_element(By.ID, "count").text == f"{wanted} of 10,000 records"


# ---- without a browser -----------------------------------------------------------------------


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first: str, second: str) -> float:
    """WCAG 2.2, relative luminance of the lighter to that of the darker colour."""
    dark, light = sorted([luminance(first), luminance(second)])
    return (light + 0.05) / (dark + 0.05)


def test_black_on_white_has_the_contrast_that_wcag_says():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)


def test_every_text_colour_has_contrast_aa_in_both_themes():
    style = Path(html.__file__).with_name("page.css").read_text()
    themes = [dict(re.findall(r"--([\w-]+): (#\w{6});", block)) for block in style.split("}")]
    themes = [theme for theme in themes if "accent" in theme]
    assert len(themes) == 3
    assert themes[1] == themes[2]
    for theme in themes:
        for ground in ("ground", "raised"):
            for text in ("text", "quiet", "accent"):
                assert contrast(theme[text], theme[ground]) >= 4.5, (text, ground)
        assert contrast(theme["warn"], theme["warn-ground"]) >= 4.5


def test_without_previews_there_is_no_gallery(make_record, tmp_path):
    page = html.render(Summary("a", [make_record()], 1, {}), [], tmp_path)
    assert 'id="maps"' not in page
    assert 'id="records"' in page
    assert not re.search(r"\bnan\b", re.sub(r"(?s)<script>.*?</script>", "", page), re.IGNORECASE)


def test_too_many_pictures_are_left_out_and_that_is_said(report, monkeypatch):
    from xai_core.report import saved
    from xai_core.report.html import pictures

    summary = saved.load(report)
    whole = pictures.choose(summary, report / previews.FOLDER)
    assert (len(whole.entries), whole.there, whole.size) == (12, 12, "224")
    monkeypatch.setattr(pictures, "BUDGET", 60_000)
    some = pictures.choose(summary, report / previews.FOLDER)
    assert 0 < len(some.entries) < 12
    assert some.there == 12
    used = sum(len(entry["maps"]) for entry in some.entries)
    used += sum(len(part) for sample in some.samples.values() for part in sample.values())
    assert used <= 60_000 * 1.01
    page = html.render(summary, [], report / previews.FOLDER)
    assert f"Shown are {len(some.entries)} of 12 pictures" in " ".join(page.split())


def test_the_best_and_the_worst_are_shown_first(report, monkeypatch):
    from xai_core.report import saved
    from xai_core.report.html import pictures

    summary = saved.load(report)
    monkeypatch.setattr(pictures, "BUDGET", 120_000)
    shown = {
        (entry["net"], entry["sample"])
        for entry in pictures.choose(summary, report / previews.FOLDER).entries
    }
    first = min(record.net for record in summary.records)
    own = [r for r in summary.records if r.net == first and r.method == "cam"]
    own.sort(key=lambda record: record.metrics["concentration"])
    assert {(first, own[0].sample), (first, own[-1].sample)} <= shown
