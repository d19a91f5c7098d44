"""``--report net.html``: the page holds what was found, is harmless, and draws its charts."""

import html.parser
import os
import re
import shutil
import subprocess

import numpy as np
import onnx
import pytest

import dlaconv
from dlaconv.cli import run
from dlaconv.errors import UsageError
from dlaconv.html.markup import element, escape
from dlaconv.html.page import report_page
from dlaconv.ir.histograms import Histogram
from dlaconv.options import Options
from tests.core import samples
from tests.core.test_partition import Converted, network

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
BROWSER = os.environ.get("DLACONV_BROWSER") or next(filter(None, map(shutil.which, BROWSERS)), None)
NASTY = [
    "<script>console.error('one')</script>",
    "</script><script>console.error('two')</script>",
    '"><img src=x onerror="console.error(\'three\')">',
    "' onmouseover='console.error(4)",
    "<!--",
    "]]>&amp;\u2028\u202e",
    "javascript:alert(1)",
]


class Elements(html.parser.HTMLParser):
    """The elements of a page, and its text outside of scripts."""

    def __init__(self, text):
        super().__init__()
        self.found, self.text, self.inside = [], "", ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        self.inside = tag

    def handle_endtag(self, tag):
        self.inside = ""

    def handle_data(self, data):
        if self.inside not in {"script", "style"}:
            self.text += data

    def named(self, tag):
        return [attributes for name, attributes in self.found if name == tag]


def shown(page):
    """The page as a browser has it after its script, and what it has to say on its console."""
    if BROWSER is None:
        pytest.skip("no browser is installed (chromium, or DLACONV_BROWSER)")
    folder = page.parent / "profile"
    result = subprocess.run(
        [
            BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr",
            f"--user-data-dir={folder}", "--virtual-time-budget=5000", "--dump-dom", page.as_uri(),
        ],
        capture_output=True, text=True, check=True, timeout=240,
    )  # fmt: skip
    console = [line for line in result.stderr.splitlines() if "CONSOLE" in line]
    return Elements(result.stdout), console


@pytest.fixture
def made(tmp_path):
    """A network with nasty names, cut in the middle, and its page."""
    model = network("conv", "Erf", "conv", "fc")
    names = {node.name: nasty for node, nasty in zip(model.graph.node, NASTY, strict=False)}
    values = {"v0": NASTY[0] + "v", "v1": NASTY[1] + "v", "v2": NASTY[2] + "v", "c2": NASTY[5]}
    for node in model.graph.node:
        node.name = names.get(node.name, node.name)
        node.input[:] = [values.get(name, name) for name in node.input]
        node.output[:] = [values.get(name, name) for name in node.output]
    return Converted(tmp_path, model, partition=True, html=tmp_path / "net.html")


def test_names_of_a_file_are_text(made):
    page = (made.folder / "net.html").read_text("utf-8")
    elements = Elements(page)
    assert len(elements.named("script")) == 2
    assert not elements.named("img")
    assert not [a for _, attributes in elements.found for a in attributes if a.startswith("on")]
    assert "<script>console.error('one')</script>" in elements.text


def test_nothing_is_loaded_and_no_other_script_may_run(made):
    page = (made.folder / "net.html").read_text("utf-8")
    elements = Elements(page)
    for _, attributes in elements.found:
        assert "src" not in attributes
        assert attributes.get("href", "#").startswith("#")
    [policy] = [a["content"] for a in elements.named("meta") if "http-equiv" in a]
    assert "default-src 'none'" in policy
    assert re.search(r"script-src 'sha256-[\w+/=]+';", policy)
    assert "url(" not in page
    assert "@import" not in page


def test_it_says_what_the_report_says(made):
    text = Elements((made.folder / "net.html").read_text("utf-8")).text
    report = made.report
    for port in [*report["io"]["inputs"], *report["io"]["outputs"]]:
        assert (port.get("feed") or port["read"]) in text
    for part in report["parts"]:
        assert part["file"] in text
    for row in report["host"]:
        assert row["reason"] in text
    for row in report["rewrites"]:
        assert row["detail"] in text
    for row in report["verification"]["maps"]:
        assert f"{row['local']['qsnr_db']:.1f} dB" in text
    assert report["source"]["sha256"] in text


def test_a_browser_draws_every_chart_without_complaint(made):
    elements, console = shown(made.folder / "net.html")
    assert console == []
    charts = [a for _, a in elements.found if "data-chart" in a]
    maps = len(made.report["verification"]["maps"])
    weights = sum(row["kind"] == "weight" for row in made.report["tensors"])
    assert len(charts) >= 1 + maps + weights
    assert len(elements.named("svg")) == len(charts)
    [page] = elements.named("html")
    assert page["data-drawn"] == str(len(charts))
    bars = [a for a in elements.named("rect") if a["class"] == "bar"]
    assert len(bars) == maps
    for bar in bars:
        assert float(bar["height"]) > 1
    assert len([a for a in elements.named("rect") if a["class"] == "count"]) > 20 * maps


def test_the_browser_would_have_complained(tmp_path):
    page = tmp_path / "net.html"
    page.write_text(report_page(samples.report()).replace("var drawn = 0;", "undefined.x;"))
    elements, console = shown(page)
    assert console
    assert not elements.named("svg")


def test_a_report_without_comparison_is_a_page_too(tmp_path):
    page = tmp_path / "net.html"
    page.write_text(report_page(samples.report(verification=None)), "utf-8")
    assert "was not compared" in Elements(page.read_text("utf-8")).text
    _, console = shown(page)
    assert console == []


def test_exact_layers_are_drawn_as_such(tmp_path):
    page = tmp_path / "net.html"
    page.write_text(report_page(samples.report()), "utf-8")
    elements, console = shown(page)
    assert console == []
    assert len(elements.named("svg")) == 1
    assert "exact" in elements.text


def test_the_option_writes_it_beside_the_rest(tmp_path):
    onnx.save(network("conv", "fc"), tmp_path / "net.onnx")
    np.savez(tmp_path / "data.npz", x=np.random.default_rng(0).normal(size=(4, 3, 8, 8)))
    arguments = [
        "from-onnx", tmp_path / "net.onnx", "-o", tmp_path / "net.dla.onnx", "--quiet",
        "--calibrate", tmp_path / "data.npz", "--report", tmp_path / "page.html",
    ]  # fmt: skip
    assert run(list(map(str, arguments))) == 0
    assert (tmp_path / "page.html").read_text("utf-8").startswith("<!DOCTYPE html>")
    assert (tmp_path / "net.dla.onnx").exists()


@pytest.mark.parametrize("name", ["net.onnx", "net.dla.json", "net.dla.onnx", "none/x.html"])
def test_it_overwrites_nothing(tmp_path, name):
    onnx.save(network("conv", "fc"), tmp_path / "net.onnx")
    with pytest.raises(UsageError, match="DLA421"):
        dlaconv.convert(
            tmp_path / "net.onnx", tmp_path / "net.dla.onnx", options=Options(html=tmp_path / name)
        )
    assert [path.name for path in tmp_path.iterdir()] == ["net.onnx"]


def test_histograms_count_every_value_once():
    found = Histogram(-128, 127, 0.5)
    found.add(np.array([[-1000.0, -128, 0, 0], [126.9, 128, 190, 1e9]]))
    found.add(np.zeros(0))
    data = found.as_json()
    assert sum(data["counts"]) == 8
    assert (data["least"], data["greatest"]) == (-500, 5e8)
    assert data["counts"][0] == 1
    assert data["counts"][-1] == 2
    zero = int((0 - data["low"]) / data["width"])
    assert data["counts"][zero] == 2
    assert Histogram(0, 255, 1.0).as_json()["least"] is None


def test_text_is_escaped_and_markup_is_not():
    assert element("b", "<i>", escape("&")) == "<b>&lt;i&gt;&amp;</b>"
    assert element("a", "x", title='"><') == '<a title="&quot;&gt;&lt;">x</a>'
    assert escape("a\x00\u202eb") == r"a\x00\x202eb"
