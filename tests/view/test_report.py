"""The report is one sound page: nothing loaded, nothing hidden, nothing unescaped, nothing lost."""

import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from fukusen.store import audit_schema
from fukusen.view import report_page, write_report
from fukusen.view.matrix import Matrix
from fukusen.view.words import Words

VOID = {"meta", "link", "img", "br", "input", "hr", "path", "circle", "rect", "use"}


@dataclass
class Page(HTMLParser):
    """What a reader of the page meets."""

    html: str
    tags: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    headings: list[tuple[int, str]] = field(default_factory=list)
    unclosed: list[str] = field(default_factory=list)
    text: str = ""

    def __post_init__(self) -> None:
        super().__init__()
        self.feed(self.html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.unclosed.append(tag)
        if re.fullmatch("h[1-6]", tag):
            self.headings.append((int(tag[1]), ""))

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.unclosed.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" in self.unclosed:
            return
        self.text += data
        if self.unclosed and any(re.fullmatch("h[1-6]", tag) for tag in self.unclosed):
            level, text = self.headings[-1]
            self.headings[-1] = level, text + data

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def words(self) -> str:
        return " ".join(self.text.split())


@pytest.fixture(scope="module")
def pages() -> Callable[[Any], Page]:
    """The page of an audit, made once."""
    made: dict[Path, Page] = {}

    def page_of(audit: Any) -> Page:
        if audit.store.folder not in made:
            made[audit.store.folder] = Page(report_page(audit.store, audit.verdict))
        return made[audit.store.folder]

    return page_of


@pytest.fixture
def page(audit: Any, pages: Callable[[Any], Page]) -> Page:
    return pages(audit)


def test_the_samples_are_verdicts(audit: Any) -> None:
    jsonschema.validate(audit.verdict, audit_schema())


def test_the_page_is_well_formed(page: Page) -> None:
    assert page.unclosed == []
    identifiers = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(identifiers) == len(set(identifiers))
    for name in ("href", "aria-labelledby"):
        targets = [attributes[name].removeprefix("#") for _, attributes in page.tags if name in attributes]
        assert set(targets) <= set(identifiers)


def test_headings_begin_at_one_and_leave_no_step_out(page: Page) -> None:
    levels = [level for level, _ in page.headings]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert all(text.strip() for _, text in page.headings)


def test_nothing_comes_from_elsewhere_and_nothing_runs(page: Page) -> None:
    policy = next(meta["content"] for meta in page.all("meta") if "http-equiv" in meta)
    assert policy == (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
    )
    assert not {"script", "link", "iframe", "object", "form"} & {tag for tag, _ in page.tags}
    assert not re.search(r"https?:|@import|url\(", page.html)
    for _, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on")]
        assert attributes.get("src", "data:image/webp;base64,").startswith("data:image/webp;base64,")
        assert attributes.get("href", "#").startswith("#")


def test_every_picture_says_what_it_shows(page: Page) -> None:
    assert page.all("img")
    assert all(len(image["alt"]) > 20 for image in page.all("img"))


def test_tables_are_named_and_their_headers_scoped(page: Page) -> None:
    assert len(page.all("table")) == len(page.all("caption"))
    assert all(header["scope"] in ("row", "col") for header in page.all("th"))
    regions = [attributes for attributes in page.all("div") if attributes.get("role") == "region"]
    assert len(regions) == len(page.all("table"))
    assert all(region["tabindex"] == "0" and region["aria-label"] for region in regions)


def test_landmarks_and_a_way_past_them(page: Page) -> None:
    assert [len(page.all(tag)) for tag in ("header", "nav", "main", "footer")] == [1, 1, 1, 1]
    assert page.all("html") == [{"lang": "en"}]
    assert page.all("a")[0] == {"class": "skip", "href": "#result"}


def test_the_status_is_said_in_words(audit: Any, page: Page) -> None:
    status = audit.verdict["status"].capitalize()
    assert f"Result of the audit: {status}" in page.words
    assert page.html.count(f"<title>{status}: heatmap audit of ") == 1


def test_every_finding_check_reason_and_failure_is_there(audit: Any, page: Page) -> None:
    verdict = audit.verdict
    told = [finding["claim"] for finding in verdict["findings"]]
    told += [check["meaning"] for check in verdict["checks"]] + [check["reason"] or "" for check in verdict["checks"]]
    told += [reason for row in verdict["panel"] for reason in row["reasons"]]
    told += [failure[part] for failure in verdict["images"]["failures"] for part in ("item", "path", "reason")]
    told += [item["item"] for item in verdict["queue"]["items"]] + verdict["model"]["notes"] + [verdict["command"]]
    assert [text for text in told if " ".join(text.split()) not in page.words] == []
    for finding in verdict["findings"]:
        assert page.words.count(finding["claim"]) >= 1


def test_markup_in_names_stays_text(sad: Any, samples: Any, pages: Any) -> None:
    page = pages(sad)
    assert "<script" not in page.html
    assert "<b>bold" not in page.html
    assert "<i>empty" not in page.html
    assert samples.script in page.words
    assert samples.long in page.words


def test_what_is_missing_is_said(sad: Any, pages: Any) -> None:
    words = pages(sad).words
    for text in (
        "No agreement was measured.",
        "No map: no <rule> for this layer.",
        "empty map",
        "The picture itself is not in the store.",
        "sigmoid (assumed; nothing in the model says so)",
        "_bn1; the size of its maps is not known",
        "No map: the layer '<fc>' has no places.",
    ):
        assert text in words


def test_manipulated_maps_are_seen_and_said_to_lie_elsewhere(manipulated: Any, pages: Any) -> None:
    alts = [image["alt"] for image in pages(manipulated).all("img")]
    for method in ("Grad-CAM", "HiResCAM", "Gradient", "Integrated gradients", "LRP"):
        logit = [alt for alt in alts if alt.startswith(f"{method}, logit: ")]
        log_odds = [alt for alt in alts if alt.startswith(f"{method}, log-odds: ")]
        assert len(logit) == len(log_odds) == 14
        assert all("the weight lies upper left" in alt for alt in logit)
        assert not any("upper left" in alt for alt in log_odds)


def test_further_facts_are_numbers_and_words(manipulated: Any, pages: Any) -> None:
    """What is not known is left out, and what rows of the panel say is said there."""
    words = pages(manipulated).words
    assert "Further facts images20 largest1.05 layer_bn1 About" in words


def test_an_empty_queue_shows_ordinary_images_and_says_so(clean: Any, pages: Any) -> None:
    page = pages(clean)
    assert "Ordinary images" in page.words
    assert "The gravest images" not in page.words
    assert len(page.all("article")) == 6


def test_a_report_of_fifty_images_is_small(tmp_path: Path, samples: Any) -> None:
    names = [f"{number}.jpg" for number in range(50)]
    store = samples.filled(tmp_path, names, (0.1, 0.9))
    items = [samples.queue_item(name, 0.5, "high", ["Its maps differ."]) for name in names]
    verdict = {**samples.verdict_of("fail", (50, 0)), "queue": {"open": 50, "items": items}}
    path = write_report(store, verdict)
    assert path == tmp_path / "report.html"
    assert path.stat().st_size < 5_000_000
    page = Page(path.read_text("utf-8"))
    assert len(page.all("article")) == 24
    assert "26 further images are in queue.csv." in page.words


def test_an_audit_without_maps_or_images_still_has_a_report(tmp_path: Path, samples: Any) -> None:
    store = samples.filled(tmp_path, [], None)
    page = Page(report_page(store, samples.verdict_of("attention", (0, 0))))
    assert len(page.all("article")) == 0
    items = [samples.queue_item("never.jpg", 0.1, "low", ["It is not in the store."])]
    page = Page(report_page(store, {**samples.verdict_of("attention", (0, 0)), "queue": {"open": 1, "items": items}}))
    assert "No maps of this image are in the store." in page.words


def test_the_page_is_the_same_every_time(sad: Any, pages: Any) -> None:
    assert report_page(sad.store, sad.verdict) == pages(sad).html


def test_the_matrix_says_numbers_signs_and_gaps(manipulated: Any, pages: Any) -> None:
    assert Matrix.of(None, Words()) is None
    agreement = {
        "measure": "spearman",
        "images": 2,
        "rows": [{"method": "lrp", "score": "logit"}, {"method": "my_cam", "score": "log_odds"}],
        "values": [[1.0, -0.254], [None, -0.001]],
    }
    matrix = Matrix.of(agreement, Words())
    assert matrix is not None
    assert matrix.names == ("LRP, logit", "my cam, log-odds")
    assert [[(cell.text, cell.shade) for cell in row] for row in matrix.rows] == [
        [("1", "p10"), ("\N{MINUS SIGN}.25", "m3")],
        [("\N{EN DASH}", "none"), ("0", "m0")],
    ]
    page = pages(manipulated)
    assert "Spearman rank correlation over 20 images." in page.words
    assert sum("p10" in cell.get("class", "") for cell in page.all("td")) >= 24


def shades(block: str) -> dict[str, str]:
    return dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", block))


def luminance(colour: str) -> float:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_text_keeps_its_contrast_on_every_ground_in_every_scheme(page: Page) -> None:
    blocks = re.findall(r":root \{(.*?)\}", page.html, re.DOTALL)
    assert len(blocks) == 3
    for block in blocks:
        colours = shades(block)
        tinted = [(tone, f"{tone}-t") for tone in ("good", "warn", "bad", "odd", "none")]
        plain = [(text, ground) for ground in ("paper", "card") for text in ("ink", "soft", "accent")]
        plain += [(tone, ground) for tone, _ in tinted for ground in ("paper", "card")]
        plain += [("ink", ground) for _, ground in tinted]
        for text, ground in plain + tinted:
            one, other = sorted((luminance(colours[text]), luminance(colours[ground])))
            assert (other + 0.05) / (one + 0.05) >= 4.5, (text, ground)


def test_a_report_opens_without_torch() -> None:
    code = "import sys; import fukusen.view, fukusen.store; print({'torch', 'jaxtyping'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "set()\n"
