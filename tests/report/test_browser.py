"""The report in a real browser: no errors, no network requests, plots, sorting, a phone, light and dark themes."""

import json
import shutil
import time

import pytest

from flexres_tune.report.data import read_data
from flexres_tune.report.files import write_report
from flexres_tune.report.png import write_png_files

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        not (CHROMIUM and DRIVER), reason="no chromium and chromedriver: apt-get install chromium chromium-driver"
    ),
]
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
HOSTILE = "<script>alert(1)</script>"


class Browser:
    """A Chromium that opens files and records their console messages and network requests."""

    def __init__(self, profile):
        from selenium import webdriver
        from selenium.webdriver.chrome.service import Service

        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=Service(DRIVER))
        self.run = self.driver.execute_script

    def open(self, path, width=1100, theme="light"):
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.set_theme(theme)
        for kind in ("browser", "performance"):
            self.driver.get_log(kind)  # remove the entries of earlier pages
        self.driver.get(f"file://{path}")
        self.wait("return document.documentElement.dataset.drawn")
        return self

    def set_theme(self, theme):
        features = [{"name": "prefers-color-scheme", "value": theme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def wait(self, script, timeout_s=60):
        end = time.monotonic() + timeout_s
        while not (value := self.run(script)):
            assert time.monotonic() < end, f"not true after {timeout_s} s: {script}"
            time.sleep(0.05)
        return value

    def console_messages(self):
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self):
        messages = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        return [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    browser = Browser(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.driver.quit()


@pytest.fixture
def report(fill):
    return write_report(fill(hostile=HOSTILE), "demo").resolve()


def test_page_draws_every_plot_without_errors_or_network_requests(browser, report):
    browser.open(report)
    assert browser.console_messages() == []
    assert {url.split(":")[0] for url in browser.requests()} <= {"file", "data", "blob"}
    drawn = browser.run(
        """return [...document.querySelectorAll(".plot")].map((plot) => [plot.id,
        [...plot.querySelectorAll(".scatterlayer path, .barlayer path, .heatmaplayer image")]
        .filter((mark) => mark.getBoundingClientRect().width + mark.getBoundingClientRect().height > 2).length])"""
    )
    assert len(drawn) >= 10
    assert [name for name, count in drawn if not count] == []


def test_text_of_the_sweep_is_not_run_as_a_script(browser, report):
    browser.open(report)
    assert HOSTILE in browser.run("return document.querySelector('h1').textContent")
    assert browser.run("return document.querySelectorAll('script:not([type])').length") == 2  # Plotly's and ours
    names = browser.run("return document.getElementById('plot-timeline').textContent")
    assert "alert(1)" in names


def test_policy_blocks_an_injected_script_and_requests(browser, report):
    browser.open(report)
    refused = browser.driver.execute_async_script(
        """const done = arguments[0], refused = [];
        addEventListener("securitypolicyviolation", (event) => refused.push(event.effectiveDirective));
        const script = document.createElement("script");
        script.textContent = "window.injected = true";
        document.body.append(script);
        fetch("http://127.0.0.1:9/").catch(() => 0);
        new Image().src = "http://127.0.0.1:9/x.png";
        setTimeout(() => done([window.injected === undefined, ...refused.sort()]), 500);"""
    )
    assert refused == [True, "connect-src", "img-src", "script-src-elem"]


def test_plots_have_no_button_that_uploads_the_data(browser, report):
    browser.open(report)
    titles = browser.run(
        """return [...document.querySelectorAll(".modebar-btn")]
        .map((button) => button.dataset.title || button.getAttribute("aria-label") || "")"""
    )
    assert not [title for title in titles if "cloud" in title.lower() or "share" in title.lower()]
    assert browser.run("return document.querySelector('#plot-curves')._context.showSendToCloud") is False


def test_leaderboard_sorts_on_a_click(browser, report):
    browser.open(report)
    values = """return [...document.querySelectorAll("#board tbody tr")].map((row) => row.cells[%d].dataset.v)"""
    heads = browser.run("return [...document.querySelectorAll('#board th')].map((h) => h.textContent)")
    column = heads.index("best val accuracy")
    click = f"document.querySelectorAll('#board th button')[{column}].click()"
    for falling in (False, True):
        browser.run(click)
        found = browser.run(values % column)
        numbers = [float(value) for value in found if value]
        assert len(set(numbers)) > 3
        assert numbers == sorted(numbers, reverse=falling)
        assert found[: len(numbers)] == [value for value in found if value], "rows without a value are last"


def test_rows_are_hidden_until_the_button_is_clicked(browser, report):
    browser.open(report)
    visible = "return [...document.querySelectorAll('#board tbody tr')].filter((r) => r.offsetHeight).length"
    assert browser.run(visible) == 15
    browser.run("document.querySelector('button.more').click()")
    assert browser.run(visible) == 18


def test_trials_are_filtered_and_a_click_on_a_row_draws_its_curve(browser, report):
    browser.open(report)
    visible = "return [...document.querySelectorAll('#trials tbody tr')].filter((row) => row.offsetHeight).length"
    write = "const box = document.getElementById('filter'); box.value = '%s'; box.dispatchEvent(new Event('input'))"
    total = browser.run(visible)
    for text, expected in (("lr>=0.1 small", 6), ("status=completed lr!=0.1", 12), ("nowhere", 0), ("", total)):
        browser.run(write % text)
        assert browser.run(visible) == expected, text
    names = "return document.getElementById('plot-curves').data.map((trace) => trace.name ?? '')"
    before = browser.run(names)
    browser.run("document.querySelectorAll('#trials tr[data-trial] td')[1].click()")
    browser.run("document.querySelectorAll('#trials tr[data-trial]')[3].querySelector('button').click()")
    browser.wait(f"{names.replace('return', 'return (')}).length === {len(before) + 2}")
    assert browser.run(names)[-2].startswith("chosen: ")
    assert browser.run("return document.querySelectorAll('#trials tr.chosen').length") == 2
    browser.set_theme("dark")
    browser.wait("return document.getElementById('plot-curves')._fullLayout.paper_bgcolor === '#15181c'")
    assert len(browser.run(names)) == len(before) + 2, "a change of the theme keeps the chosen curves"
    browser.run("document.getElementById('unmark').click()")
    browser.wait(f"{names.replace('return', 'return (')}).length === {len(before)}")
    assert browser.console_messages() == []


def test_trials_sort_on_a_click(browser, report):
    browser.open(report)
    browser.run("document.querySelector('#trials th[data-name=lr] button').click()")
    keys = "return [...document.querySelectorAll('#trials tbody tr')].map((row) => row.cells[%d].textContent)"
    column = browser.run("return document.querySelector('#trials th[data-name=lr]').cellIndex")
    values = [float(text) for text in browser.run(keys % column)]
    assert values == sorted(values) and len(set(values)) == 3


def test_table_that_is_cut_says_so_until_its_end_is_reached(browser, report):
    browser.open(report, width=390)
    hints = "return [...document.querySelectorAll('.hint')].filter((hint) => !hint.hidden).length"
    shown = browser.run(hints)
    assert shown >= 2
    browser.run("const box = document.querySelector('#board').parentElement; box.scrollLeft = box.scrollWidth")
    browser.wait(f"{hints} === {shown - 1}")


def test_page_fits_a_phone(browser, report):
    browser.open(report, width=390)
    assert browser.run("return document.documentElement.scrollWidth") <= 390
    widths = browser.run("return [...document.querySelectorAll('.plot .main-svg')].map((s) => s.clientWidth)")
    assert 300 < max(widths) <= 390


def test_page_and_plots_follow_light_and_dark(browser, report):
    ground = (
        "return [getComputedStyle(document.body).backgroundColor,"
        "document.getElementById('plot-curves')._fullLayout.paper_bgcolor]"
    )
    assert browser.open(report, theme="dark").run(ground) == ["rgb(21, 24, 28)", "#15181c"]
    browser.set_theme("light")
    browser.wait(f"{ground.replace('return', 'return String(')}) === 'rgb(255, 255, 255),#ffffff'")


def test_print_is_white_in_the_dark_theme(browser, report):
    browser.open(report, theme="dark")
    browser.run("dispatchEvent(new Event('beforeprint'))")
    color = "return document.getElementById('plot-curves')._fullLayout.paper_bgcolor === '%s'"
    browser.wait(color % "#ffffff")
    browser.run("dispatchEvent(new Event('afterprint'))")
    browser.wait(color % "#15181c")


def test_two_thousand_trials_are_usable_within_three_seconds(browser, fill):
    report = write_report(fill(num_trials=2000), "demo").resolve()
    assert report.stat().st_size < 15e6
    times = [browser.open(report).run("return Number(document.documentElement.dataset.usable)") for _ in range(3)]
    assert browser.console_messages() == []
    assert min(times) < 3000, times  # the best of three, because other processes use this machine too


def test_png_files_are_drawn_without_a_network(fill, tmp_path):
    from PIL import Image

    data = read_data(fill(hostile=HOSTILE), "demo")
    paths = write_png_files(data, tmp_path / "figures")
    assert len(paths) >= 10
    for path in paths:
        with Image.open(path) as image:
            assert image.width == 2160
            assert image.convert("L").getextrema()[0] < 100, f"{path.name} is blank"
