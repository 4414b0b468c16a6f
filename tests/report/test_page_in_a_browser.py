"""The page in a real browser: open, filter, decide by keyboard, reload, export, read back."""

import contextlib
import csv
import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from label_reports import label_report

from mixnn_loader import CorrectedLabels

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(CHROMIUM is None or DRIVER is None, reason="needs Chromium and chromedriver")

EVIL = "</script><script>document.title = 'run'</script>"
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1200,900",
)
NUM_SUSPECTS = 120


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(str(DRIVER)))
    yield driver
    driver.quit()


@pytest.fixture
def page(browser: Any, tmp_path: Path) -> Any:
    report = label_report(
        NUM_SUSPECTS, class_names=["cat", EVIL, "dog"], paths=[f'a,"{i}"' for i in range(NUM_SUSPECTS)]
    )
    rng = np.random.default_rng(0)
    dataset = [(rng.integers(0, 256, (8, 8), dtype=np.uint8), 0)] * report.dataset_length
    report.to_html(tmp_path / "labels.html", dataset)
    browser.get(f"file://{tmp_path / 'labels.html'}")
    browser.execute_script("localStorage.clear()")
    browser.refresh()
    downloads = {"behavior": "allow", "downloadPath": str(tmp_path)}
    browser.execute_cdp_cmd("Browser.setDownloadBehavior", downloads)
    yield browser
    assert browser.get_log("browser") == []  # no error, and nothing that the policy refused


def press(page: Any, keys: str) -> None:
    from selenium.webdriver import ActionChains, Keys

    for key in keys:
        ActionChains(page).send_keys({">": Keys.ARROW_RIGHT, "<": Keys.ARROW_LEFT}.get(key, key)).perform()


def cards(page: Any) -> list[str]:
    return [str(card.get_attribute("id")) for card in page.find_elements("css selector", ".card")]


def verdict(page: Any, index: int) -> str:
    return str(page.find_element("css selector", f"#suspect-{index} .verdict").text)


def text_of(page: Any, name: str) -> str:
    return str(page.find_element("id", name).text)


def set_value(page: Any, name: str, value: object) -> None:
    script = "const e = document.getElementById(arguments[0]); e.value = arguments[1]; "
    page.execute_script(script + "for (const n of ['input', 'change']) e.dispatchEvent(new Event(n))", name, str(value))


def downloaded(file: Path) -> str:
    for _ in range(200):
        if file.exists():
            return file.read_text(encoding="utf-8")
        time.sleep(0.05)
    raise AssertionError(f"{file.name} was not downloaded")


def test_bars_of_losses_are_of_all_samples_and_of_issues(page: Any) -> None:
    bars = page.execute_script(
        "return [...document.querySelectorAll('#losses rect')].map((bar) => [bar.classList.contains('issue'), "
        "Number(bar.getAttribute('height'))])"
    )
    of_all, of_issues = ([height for is_issue, height in bars if is_issue is kind] for kind in (False, True))
    assert len(of_all) == len(of_issues) > 1
    assert max(of_all) == pytest.approx(140)
    assert all(issues <= everyone for everyone, issues in zip(of_all, of_issues, strict=True))
    assert sum(of_issues) > 0


def test_opens_with_the_issues_and_draws_a_page_of_them(page: Any) -> None:
    assert page.title == "Which labels are wrong?"
    assert text_of(page, "top-value") == "40"  # a third of 120 are issues
    assert cards(page)[:2] == ["suspect-10", "suspect-20"]
    assert len(cards(page)) == 40
    first = page.find_element("id", "suspect-10").text
    assert f"cat → {EVIL}?" in first
    assert '#1, index 10, a,"0"' in first
    assert f"1 of 2 neighbors say {EVIL}" in first
    assert "predicted otherwise" not in first  # it was never asked about
    history = "predicted otherwise in 75 % of all looks, mean probability of the given label 13 %"
    assert history in page.find_element("id", "suspect-310").text
    wrong = sum(1 - row / (NUM_SUSPECTS - 1) for row in range(40))
    # One reading is the root of P(clean), another its square.
    clean = [row / (NUM_SUSPECTS - 1) for row in range(40)]
    low, high = (round(100 * (1 - sum(c**power for c in clean) / 40)) for power in (0.5, 2))
    assert f"({low} % to {high} %): about {round(wrong)} of these 40 labels are wrong" in text_of(page, "precision")
    natural = page.execute_script(
        "return [...document.images].every(image => image.complete && image.naturalWidth > 0)"
    )
    assert natural


def test_more_or_fewer_and_filters(page: Any) -> None:
    set_value(page, "top", 120)
    assert len(cards(page)) == 50
    assert page.find_element("css selector", ".place").text == "Page 1 of 3, 120 suspects"
    page.find_elements("css selector", ".after")[0].click()
    assert cards(page)[0] == "suspect-510"
    set_value(page, "top", 3)
    assert cards(page) == ["suspect-10", "suspect-20", "suspect-30"]
    assert "Expected precision" in text_of(page, "precision")
    set_value(page, "top", 40)
    set_value(page, "least", 90)
    assert 0 < len(cards(page)) < 40
    set_value(page, "least", 0)
    set_value(page, "sort", "given")
    titles = [title.text.split(" → ")[0] for title in page.find_elements("css selector", ".card h2")]
    assert titles == sorted(titles, key=["cat", EVIL, "dog"].index)


def test_a_pair_of_classes(page: Any) -> None:
    page.find_element("css selector", "details summary").click()
    button = page.find_element("css selector", "#pairs button")
    count = int(button.text)
    button.click()
    assert len(cards(page)) == count
    assert {title.text for title in page.find_elements("css selector", ".card h2")} == {f"cat → {EVIL}?"}
    page.find_element("id", "all-pairs").click()
    assert len(cards(page)) == 40


def test_a_pair_of_classes_shows_as_many_as_its_number_says_however_many_are_shown(page: Any) -> None:
    set_value(page, "top", 3)
    page.find_element("css selector", "details summary").click()
    button = page.find_element("css selector", "#pairs button")
    assert int(button.text) > 3
    button.click()
    assert len(cards(page)) == int(button.text)


def test_the_list_of_classes_is_one_decision(page: Any) -> None:
    from selenium.webdriver import Keys

    press(page, ">k")
    press(page, "<o")
    select = page.switch_to.active_element
    select.send_keys(Keys.ARROW_DOWN)
    select.send_keys(Keys.ARROW_DOWN)
    assert verdict(page, 10) == f"changed: {EVIL}"
    select.send_keys(Keys.ESCAPE)
    assert verdict(page, 10) == "kept: cat"
    assert page.switch_to.active_element.get_attribute("id") == "suspect-10"
    press(page, "o")
    for key in (Keys.ARROW_DOWN, Keys.ARROW_DOWN, Keys.ARROW_DOWN, Keys.ENTER):
        page.switch_to.active_element.send_keys(key)
    assert verdict(page, 10) == "changed: dog"
    press(page, "z")
    assert verdict(page, 10) == "kept: cat"
    press(page, "z")
    assert text_of(page, "done") == "0 decided"


def test_tall_and_wide_pictures_keep_their_shape_and_fit(browser: Any, tmp_path: Path) -> None:
    shapes = [(200, 28), (28, 200), (20, 20)]
    dataset = [(np.zeros(shapes[i // 10 % 3], dtype=np.uint8), 0) for i in range(70)]
    label_report(6).to_html(tmp_path / "labels.html", dataset)
    browser.get(f"file://{tmp_path / 'labels.html'}")
    set_value(browser, "top", 6)
    script = "return [...document.querySelectorAll(arguments[0])].map(i => [i.width, i.height, i.naturalWidth])"
    for place, most in ((".top > img", 112), (".near img", 56)):
        sizes = browser.execute_script(script, place)
        assert sizes
        assert all(max(width, height) <= most and natural > 0 for width, height, natural in sizes)
        assert any(height > 5 * width for width, height, _ in sizes)
        assert any(width > 5 * height for width, height, _ in sizes)


def test_decides_by_keyboard_and_remembers(page: Any, tmp_path: Path) -> None:
    press(page, ">aku")
    assert [verdict(page, index) for index in (10, 20, 30)] == [f"accepted: {EVIL}", f"kept: {EVIL}", "unsure"]
    assert page.switch_to.active_element.get_attribute("id") == "suspect-40"
    press(page, "a<<uz")  # the last one is taken back
    assert [verdict(page, index) for index in (30, 40)] == ["unsure", f"accepted: {EVIL}"]
    assert text_of(page, "done") == "4 decided"

    page.refresh()
    assert text_of(page, "done") == "4 decided"
    assert verdict(page, 10) == f"accepted: {EVIL}"
    set_value(page, "state", "open")
    assert len(cards(page)) == 36
    set_value(page, "state", "decided")
    assert cards(page) == ["suspect-10", "suspect-20", "suspect-30", "suspect-40"]

    page.find_element("id", "save-csv").click()
    text = downloaded(tmp_path / "decisions.csv")
    rows = list(csv.reader(text.splitlines()))
    assert rows == [
        ["index", "path", "given", "new", "decision"],
        ["10", 'a,"0"', "0", "1", "accept"],
        ["20", 'a,"1"', "1", "1", "keep"],
        ["30", 'a,"2"', "2", "", "unsure"],
        ["40", 'a,"3"', "0", "1", "accept"],
    ]
    dataset = [("x", 0)] * 1201
    corrected = CorrectedLabels.from_csv(dataset, tmp_path / "decisions.csv", unsure="drop")
    assert len(corrected) == 1200
    assert [index for index, label in zip(corrected.indices, corrected.new_labels, strict=True) if label == 1] == [
        10,
        40,
    ]


def test_another_class_and_a_file_read_back(page: Any, tmp_path: Path) -> None:
    press(page, ">o")
    select = page.switch_to.active_element
    assert select.tag_name == "select"
    select.send_keys("dog")
    select.send_keys("\ue007")
    assert verdict(page, 10) == "changed: dog"
    press(page, "k")  # the next one has the focus
    assert verdict(page, 20) == f"kept: {EVIL}"
    page.find_element("id", "save-json").click()
    read = json.loads(downloaded(tmp_path / "decisions.json"))
    assert read["decisions"][0] == {"index": 10, "path": 'a,"0"', "given": 0, "new": 2, "decision": "other"}
    assert read["classes"] == ["cat", EVIL, "dog"]
    page.find_element("id", "save-csv").click()
    downloaded(tmp_path / "decisions.csv")

    for name in ("decisions.json", "decisions.csv"):
        page.execute_script("localStorage.clear()")
        page.refresh()
        assert text_of(page, "done") == "0 decided"
        page.find_element("id", "read").send_keys(str(tmp_path / name))
        _wait(lambda: text_of(page, "done") == "2 decided")
        assert verdict(page, 10) == "changed: dog"
    (tmp_path / "other.csv").write_text("index,new,decision\n7,1,accept\n10,9,accept\n10,1,guess\n20,2,other\n")
    page.find_element("id", "read").send_keys(str(tmp_path / "other.csv"))
    _wait(lambda: verdict(page, 20) == "changed: dog")
    assert verdict(page, 10) == "changed: dog"
    (tmp_path / "elsewhere.json").write_text(
        '{"report": "another", "decisions": [{"index": 30, "given": 0, "new": 1, "decision": "accept"}]}'
    )  # its sample 30 has another label
    page.find_element("id", "read").send_keys(str(tmp_path / "elsewhere.json"))
    _wait(lambda: text_of(page, "told") == "0 of 1 decisions were read. They are of another report.")
    assert verdict(page, 30) == ""
    (tmp_path / "broken.json").write_text("{")
    page.find_element("id", "read").send_keys(str(tmp_path / "broken.json"))
    _wait(lambda: text_of(page, "done") == "broken.json holds no decisions")


def test_going_through_what_is_open_skips_nobody(page: Any) -> None:
    set_value(page, "top", 120)
    set_value(page, "state", "open")
    press(page, ">" + "a" * 52)  # over the end of the first page
    assert text_of(page, "done") == "52 decided"
    assert page.switch_to.active_element.get_attribute("id") == "suspect-530"
    press(page, "z" * 4)  # and back
    assert page.switch_to.active_element.get_attribute("id") == "suspect-490"
    assert text_of(page, "done") == "48 decided"
    page.find_elements("css selector", ".after")[0].click()
    assert cards(page)[0] == "suspect-510"


def test_nothing_is_decided_that_is_not_seen(page: Any) -> None:
    press(page, "a")
    assert text_of(page, "done") == "0 decided"
    assert page.switch_to.active_element.get_attribute("id") == "suspect-10"
    page.execute_script(
        "for (let i = 0; i < 5; i++) document.activeElement.dispatchEvent("
        "new KeyboardEvent('keydown', {key: 'a', repeat: true, bubbles: true}))"
    )
    assert text_of(page, "done") == "0 decided"
    press(page, "a")
    assert text_of(page, "done") == "1 decided"
    press(page, "z")
    page.refresh()
    assert text_of(page, "done") == "0 decided"


def test_decisions_of_another_window_and_of_a_longer_page_stay(page: Any) -> None:
    press(page, ">a")
    key = page.execute_script("return Object.keys(localStorage)[0]")
    script = """const stored = JSON.parse(localStorage.getItem(arguments[0]));
                stored.push([99999, {decision: "keep", new: 0}], [20, {decision: "unsure", new: null}]);
                localStorage.setItem(arguments[0], JSON.stringify(stored))"""
    page.execute_script(script, key)
    press(page, ">k")
    stored = dict(page.execute_script("return JSON.parse(localStorage.getItem(arguments[0]))", key))
    assert {index: made["decision"] for index, made in stored.items()} == {
        10: "accept",
        20: "unsure",
        30: "keep",
        99999: "keep",
    }


def test_the_precision_is_of_what_is_shown(page: Any) -> None:
    set_value(page, "least", 90)
    shown = len(cards(page))
    assert f"of these {shown} labels are wrong" in text_of(page, "precision")


def test_for_screen_readers(page: Any) -> None:
    unnamed = page.execute_script(
        """return [...document.querySelectorAll("button, select, input, img, article, table")].filter(e =>
             !(e.textContent.trim() || e.ariaLabel || e.alt || e.labels?.length)).map(e => e.outerHTML)"""
    )
    assert unnamed == []
    assert page.execute_script("return document.documentElement.lang") == "en"
    press(page, ">a")
    assert text_of_hidden(page, "told") == f"index 10: accepted: {EVIL}"
    assert page.find_element("css selector", "#suspect-10 [data-act=accept]").get_attribute("aria-pressed") == "true"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast_and_narrow_windows(page: Any, scheme: str) -> None:
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    press(page, ">akuo")
    colors = page.execute_script(
        """const style = getComputedStyle(document.documentElement);
           return Object.fromEntries(["ground", "raised", "ink", "soft", "accent", "accept", "keep", "other", "unsure"]
             .map(name => [name, style.getPropertyValue("--" + name).trim()]))"""
    )
    for name in ("ink", "soft", "accent", "accept", "keep", "other", "unsure"):
        for ground in ("ground", "raised"):
            assert _contrast(colors[name], colors[ground]) >= 4.5, (name, ground)
    for width in (320, 600, 1600):
        metrics = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
        page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        assert page.execute_script("return document.documentElement.scrollWidth") <= width
    page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def text_of_hidden(page: Any, name: str) -> str:
    return str(page.find_element("id", name).get_attribute("textContent"))


def _wait(is_so: Callable[[], bool]) -> None:
    from selenium.common.exceptions import StaleElementReferenceException

    for _ in range(100):
        with contextlib.suppress(StaleElementReferenceException):  # drawn anew between finding it and reading it
            if is_so():
                return
        time.sleep(0.05)
    raise AssertionError("it did not happen in five seconds")


def _contrast(one: str, other: str) -> float:
    """Return the contrast ratio of two colors as WCAG 2 defines it."""

    def luminance(color: str) -> float:
        parts = [int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)
