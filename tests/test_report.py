"""The report in a browser: one file, used by mouse and by keyboard."""

import base64
import json
import re
import shlex
import shutil
from dataclasses import fields, replace
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
import torch
from conftest import SAMPLES
from hypothesis import given
from hypothesis import strategies as st

import register
from register import settings
from register.engine import pair
from register.engine.ambiguity import outcome
from register.engine.ambiguity.rivals import Rival
from register.engine.quality import verdict as verdicts
from register.errors import FileError
from register.io.images.colours import colour_picture
from register.io.images.model import Image
from register.report import advice, colours, maps, pictures, zooms
from register.report.axes import Axis, Tick
from register.report.panels import Scene
from register.transforms.quality import Quality
from register.transforms.transform import Transform
from register.workflows import align, report

TISSUE = SAMPLES / "tissue_fixed.png", SAMPLES / "tissue_moving.png"
LANDMARKS = f"{SAMPLES / 'tissue_landmarks_fixed.csv'},{SAMPLES / 'tissue_landmarks_moving.csv'}"


@pytest.fixture(scope="module")
def aligned(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report") / "tissue"
    align.run(align.Job(*TISSUE, folder, settings.check(preset="fast", landmarks=LANDMARKS)))
    return folder


@pytest.fixture(scope="module")
def several(aligned, tmp_path_factory):
    """A folder of three alignments, one of them called failed and one suspect."""
    folder = tmp_path_factory.mktemp("many")
    for name, verdict in (("a b&c", "ok"), ("second", "failed"), ("third", "suspect")):
        shutil.copytree(aligned, folder / name)
        path = folder / name / "transform.json"
        content = json.loads(path.read_text())
        content["quality"] |= {"verdict": verdict, "reasons": ["<b>why</b>"] if verdict != "ok" else []}
        path.write_text(json.dumps(content))
    report.draw_index(report.finished([folder]))
    return folder


@pytest.fixture(scope="module")
def browser():
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("this machine has no Chromium")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def opened(browser):
    """Open a file at a width; errors and requests of the page fail the test at the end."""
    wrong, pages = [], []

    def open_file(path, width=1280, **options):
        page = browser.new_page(viewport={"width": width, "height": 900}, **options)
        page.on("console", lambda message: wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on(
            "request",
            lambda request: (
                wrong.append(request.url) if not request.url.startswith(("file:", "data:")) else None
            ),
        )
        page.goto(path.resolve().as_uri())
        pages.append(page)
        return page

    yield open_file
    for page in pages:
        page.close()
    assert wrong == []


def test_the_report_is_one_file_with_all_results(aligned):
    text = (aligned / "report.html").read_text()
    assert len(text) < 5e6
    assert not re.search(r"(src|href)=[\"'](?!data:)", text)
    assert "url(" not in re.sub(r"base64,[^\"]*", "", text)
    content = json.loads((aligned / "transform.json").read_text())
    for word in (
        content["provenance"]["torch"],
        content["fixed"]["sha256"],
        "rotation_range",
        "TRE, px",
        "Worst patch",
        "Convergence",
    ):
        assert word in text
    assert content["quality"]["landmarks"]["after"]["tre"]["median"] < 0.5
    assert content["provenance"]["seconds"]["pictures"] > 0
    assert all(len(losses) > 0 for losses in content["provenance"]["history"].values())


def test_a_report_drawn_again_is_the_same(aligned, tmp_path):
    folder = shutil.copytree(aligned, tmp_path / "again")
    (folder / "report.html").unlink()
    assert report.redraw(folder) == folder / "report.html"

    def stripped(path):
        return re.sub(r"<tr><th scope=\"row\">(seconds|created).*\n", "", (path / "report.html").read_text())

    assert stripped(folder) == stripped(aligned)


def test_a_report_that_cannot_be_drawn_is_an_error(aligned, tmp_path, program):
    with pytest.raises(FileError, match="holds no transform"):
        report.finished([tmp_path])
    folder = shutil.copytree(aligned, tmp_path / "gone")
    content = json.loads((folder / "transform.json").read_text())
    content["moving"]["path"] = str(tmp_path / "gone.png")
    (folder / "transform.json").write_text(json.dumps(content))
    done = program("report", folder)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "gone.png" in done.stderr
    assert done.stderr.count("\n") == 1
    content["moving"]["path"] = str(SAMPLES / "tissue_fixed.png")
    (folder / "transform.json").write_text(json.dumps(content))
    assert "align it again" in program("report", folder).stderr


def test_no_report_is_written_with_no_report(tmp_path, program):
    done = program(
        "align", *TISSUE, "-o", tmp_path / "o", "--no-report", "--model", "affine", "--preset", "fast", "-q"
    )
    assert done.returncode == 0, done.stderr
    assert {p.name for p in (tmp_path / "o").iterdir()} == {"aligned.png", "transform.json", "overlay.png"}
    assert program("report", tmp_path / "o").returncode == 0
    text = (tmp_path / "o" / "report.html").read_text()
    assert "The patch grid" in text
    assert "Convergence" in text


def test_strict_exits_with_3_unless_the_verdict_is_ok(tmp_path, program):
    args = (
        "align",
        *TISSUE,
        "--preset",
        "fast",
        "--max-shift",
        "1",
        "--no-report",
        "--json",
    )  # smaller than the warp: patches are limited
    done = program(*args, "-o", tmp_path / "o", "--strict")
    assert (json.loads(done.stdout)["verdict"], done.returncode) == ("suspect", 3)


def test_the_slider_works_by_mouse_and_by_keyboard(aligned, opened):
    page = opened(aligned / "report.html")
    at = "getComputedStyle(document.querySelector('.viewer')).getPropertyValue('--at')"
    page.focus("#swipe")
    page.keyboard.press("ArrowRight")
    assert page.evaluate(at) == "51%"
    page.keyboard.press("Home")
    assert page.evaluate(at) == "0%"
    page.evaluate("scrollTo(0, 0)")
    box = page.locator(".viewer").bounding_box()
    page.mouse.move(box["x"] + 0.25 * box["width"], box["y"] + 50)
    page.mouse.down()
    assert page.evaluate(at) == "25%"
    page.mouse.move(box["x"] + 0.75 * box["width"], box["y"] + 50)
    page.mouse.up()
    assert page.evaluate(at) == "75%"
    assert page.input_value("#swipe") == "75"


def test_the_compared_pictures_can_be_chosen(aligned, opened):
    page = opened(aligned / "report.html")
    assert (
        page.get_attribute(".viewer .over", "alt")
        == "The moving image after alignment, drawn on the fixed image's grid."
    )
    page.focus("input[name=compare]:checked")
    page.keyboard.press("ArrowDown")
    assert (
        page.get_attribute(".viewer .over", "alt")
        == "The moving image before alignment, drawn on the fixed image's grid."
    )
    page.get_by_label("overlay before and after").click()
    assert "false colour" in page.get_attribute(".viewer .under", "alt")
    loaded = page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
    assert loaded


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "light"), (390, "dark")])
def test_pages_are_accessible_and_fit_the_window(aligned, several, opened, width, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")
    for path in (aligned / "report.html", several / "index.html"):
        page = opened(path, width, color_scheme=scheme)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        found = axe.Axe().run(page).response["violations"]
        assert [x["id"] for x in found if x["impact"] in ("serious", "critical")] == []


def test_the_index_sorts_and_filters(several, opened):
    page = opened(several / "index.html")

    def shown():
        return page.locator("tbody tr:visible td:nth-child(2)").all_text_contents()

    assert shown() == ["second", "third", "a b&c"]
    assert "<b>why</b>" in page.inner_text("tbody")
    page.get_by_role("button", name="pair").click()
    assert shown() == ["a b&c", "second", "third"]
    page.keyboard.press("Enter")
    assert shown() == ["third", "second", "a b&c"]
    page.select_option("#filter", "failed")
    assert shown() == ["second"]
    assert page.inner_text("#count") == "1 of 3 pairs"
    page.select_option("#filter", "")
    page.get_by_role("link", name="a b&c").click()
    assert page.title().startswith("ok")


def test_the_index_of_very_many_reads_pictures_from_their_files(several, opened, monkeypatch):
    from register.report import index

    monkeypatch.setattr(index, "EMBEDDED", 1)
    name = report.draw_index(report.finished([several]), several / "many.html")
    page = opened(name)
    sources = [picture.get_attribute("src") for picture in page.locator("tbody img").all()]
    assert [source.startswith("data:") for source in sources] == [True, False, False]
    assert page.evaluate(
        "async () => (await Promise.all([...document.images]"
        ".map(x => x.decode().then(() => x.naturalWidth)))).every(w => w > 0)"
    )


def test_a_picture_of_a_difference_is_neutral_where_nothing_differs():
    from register.report.panels import difference

    grey = np.random.default_rng(0).random((5, 6)).astype(np.float32)
    assert np.ptp(difference(grey, grey)) == 0
    one = difference(np.zeros((1, 2), np.float32), np.array([[1.0, np.nan]], np.float32))
    assert one[0, 0].tolist() == [179, 88, 6]
    assert one[0, 1].tolist() == [245, 245, 245]


def svg(address):
    """The SVG that a data address holds, parsed."""
    head, data = address.split(",", 1)
    assert head == "data:image/svg+xml;base64"
    return ElementTree.fromstring(base64.b64decode(data))


@given(low=st.floats(-1e6, 1e6), span=st.floats(1e-3, 1e6))
def test_ticks_are_round_numbers_at_their_positions(low, span):
    axis = Axis(low, low + span)
    ticks = axis.ticks()
    assert 2 <= len(ticks) <= 6
    assert [tick.share for tick in ticks] == sorted(tick.share for tick in ticks)
    places = axis.share(np.array([float(tick.label) for tick in ticks]))
    assert np.abs(places - [tick.share for tick in ticks]).max() <= 5e-6 * max(abs(low), span) / span + 1e-9
    steps = np.diff([tick.share for tick in ticks])
    assert np.ptp(steps) < 1e-6


def test_ticks_of_a_logarithm_and_of_a_side_that_falls():
    assert [tick.label for tick in Axis(0.03, 3, log=True).ticks()] == ["0.05", "0.1", "0.2", "0.5", "1", "2"]
    assert Axis(0.01, 100, log=True).share(np.array([0.01, 1, 100])).tolist() == pytest.approx([0, 0.5, 1])
    falls = Axis(10, 0).ticks()
    assert (falls[0], falls[-1]) == (Tick(1.0, "0"), Tick(0.0, "10"))


def test_colours_are_those_of_the_published_maps():
    shares = np.linspace(0, 1, 256)
    for name in colours.STOPS:
        known = matplotlib.colormaps[name](shares)[:, :3] * 255
        assert np.abs(colours.shade(shares, name) - known).max() <= 14
    assert colours.shade(np.array([np.nan]), "viridis").tolist() == [[0x8A, 0x8A, 0x90]]


def test_arrows_point_from_their_place_to_where_it_moves():
    chart = svg(
        maps.arrows(
            np.zeros((50, 100), np.float32),
            (50, 100),
            np.array([[49.5, 24.5], [0, 0]]),
            np.array([[4.0, 0], [0, 2]]),
        )
    )
    inner = next(part for part in chart if part.tag.endswith("svg"))
    across, down = float(inner.get("width")), float(inner.get("height"))
    paths = [part.get("d") for part in inner if part.tag.endswith("path")]
    assert len(paths) == 2  # a colour each: their lengths differ
    tail, tip = (
        tuple(map(float, xy.split())) for xy in re.match(r"M([\d. ]+)L([\d. ]+)M", paths[1]).groups()
    )
    assert tail == pytest.approx((across / 2, down / 2), abs=0.06)
    assert tip[0] - tail[0] == pytest.approx(
        across / 100 * 4, abs=0.11
    )  # the title: arrows 1 times their length
    assert tip[1] == tail[1]
    assert any((part.text or "") == "arrows 1 × their length" for part in chart)


def test_lines_break_at_nan_and_single_points_are_dots():
    chart = svg(maps.over_frames({"a<b": np.array([1.0, np.nan, 2, 3]), "c": np.zeros(4)}, "shift, px"))
    lines = [part.get("d") for inner in chart if inner.tag.endswith("svg") for part in inner]
    assert [len(re.findall("M", line)) for line in lines] == [2, 1]
    assert re.match(r"M(\S+ \S+)L\1M", lines[0])
    assert "a<b" in [part.text for part in chart]


def as_failed(transform, **quality):
    return replace(transform, quality=replace(transform.quality, **quality))


def test_a_failed_report_says_why_and_gives_the_next_command(aligned, tmp_path, opened):
    folder = shutil.copytree(aligned, tmp_path / "failed")
    content = json.loads((folder / "transform.json").read_text())
    reason = "matching regions are not recognised: they rank at the 51st percentile of similarity"
    content["quality"] |= {"verdict": "failed", "reasons": [reason]}
    (folder / "transform.json").write_text(json.dumps(content))
    report.redraw(folder)
    for width in (1280, 390):
        page = opened(folder / "report.html", width)
        assert "do not look like the places they were laid on" in page.inner_text(".verdict .lead")
        command = page.locator(".verdict code").first
        assert command.bounding_box()["y"] < 600
        words = shlex.split(command.inner_text())
        assert words[:4] == ["register", "align", *map(str, TISSUE)]
        assert words[-2] == "--landmarks-hold"
        assert "percentile" not in page.inner_text("main")  # below the fold, for specialists


def test_the_next_command_has_the_options_that_were_asked_for(aligned):
    transform = Transform.load(aligned / "transform.json")
    assert advice.next_steps(transform) == []
    capped = as_failed(transform, verdict="suspect", reasons=("12 patches reached --max-shift; raise it",))
    step = advice.next_steps(capped)[0]
    words = shlex.split(step.command)
    given = dict(zip(words[4::2], words[5::2], strict=True))
    assert given["--preset"] == "fast"
    assert float(given["--max-shift"]) > 100
    assert set(given) <= {"-o", *(f"--{x.name.replace('_', '-')}" for x in fields(settings.Settings))}


def test_where_content_repeats_landmarks_come_first_then_a_range_below_the_rival(aligned):
    transform = Transform.load(aligned / "transform.json")
    rival = Rival(torch.eye(2, 3), (60.0, 0.0), 0.0, 60.0)
    doubted = as_failed(transform, verdict="suspect", reasons=(rival.reason(),), expected_error=60.0)
    first, second = advice.next_steps(doubted)
    assert "--landmarks-hold" in first.command
    assert second.command.endswith("--shift-range 30px")
    assert "repeats" in advice.plainly(doubted.quality)
    weak = as_failed(transform, verdict="suspect", reasons=(f"9 of 12 patches {advice.WEAK}",))
    assert ["landmarks-hold" in x.command for x in advice.next_steps(weak)] == [True, False]
    asked = replace(transform.provenance, settings={**transform.provenance.settings, "shift_range": "5 µm"})
    beyond = replace(as_failed(transform, verdict="suspect", reasons=(outcome.BEYOND,)), provenance=asked)
    assert "--shift-range '10 µm'" in advice.next_steps(beyond)[0].command


def test_every_reason_has_a_plain_sentence():
    quality = Quality(
        verdict="suspect",
        probability_wrong=0.9,
        recognised=0.5,
        recognised_sigma=0.1,
        overlap=0.01,
        det_global=40.0,
        back_and_forth=500.0,
    )
    expected, status = verdicts.Expected(100.0), ["weak"] * 18 + ["capped"] + ["unrecognised"] * 3
    reasons = verdicts.verdict(quality, status, expected)[1]
    reasons += verdicts.verdict(Quality(probability_wrong=0.9, above_chance=1.0), [], expected)[1]
    assert len(reasons) == 9
    plain = [advice.plainly(Quality(verdict="suspect", reasons=(reason,))) for reason in reasons]
    assert advice.VERDICTS["suspect"] not in plain


def test_the_overlay_is_grey_where_two_stains_agree():
    rng = np.random.default_rng(2)
    grey = rng.normal(size=(120, 140)).astype(np.float32)
    for _ in range(3):
        grey = (grey + np.roll(grey, 1, 0) + np.roll(grey, 1, 1)) / 3
    grey = (grey - grey.min()) / np.ptp(grey)
    stain = 0.3 + 0.5 * (1 - grey) ** 1.5
    one, other = pictures.Equalised.of(grey), pictures.Equalised.of(stain)
    assert one.is_opposite(other)
    moved = pictures.Equalised.of(np.roll(stain, 9, 1))
    same, other = (pictures.neutral_overlay(one, x, opposite=True).astype(int) for x in (other, moved))
    colour = [np.abs(one[..., 0] - one[..., 1]).mean() for one in (same, other)]
    assert colour[0] < 8 < 0.4 * colour[1]


def test_where_there_is_no_image_it_is_hatched():
    grey = np.full((40, 40), 0.5, np.float32)
    half = grey.copy()
    half[:, 20:] = np.nan
    both = (pictures.Equalised.of(x) for x in (grey, half))
    shown = pictures.neutral_overlay(*both, opposite=False)
    assert set(np.unique(shown[:, 20:])) == {pictures.DARK, pictures.LIGHT}


def test_channels_are_drawn_in_their_colours():
    planes = np.zeros((2, 30, 30), np.uint16)
    planes[0, :15], planes[1, 15:] = 900, 5000
    drawn = colour_picture(Image(planes, kind="ome", channel_colours=(0x00FF00FF, -16776961)))
    assert drawn.rgb[2, 2].tolist() == [0, 1, 0]
    assert drawn.rgb[20, 2].tolist() == [1, 0, 0]
    assert colour_picture(Image(planes[:1])) is None
    rgb = np.arange(3 * 400, dtype=np.uint8).reshape(3, 20, 20)
    assert np.allclose(colour_picture(Image(rgb, colour="rgb")).rgb, np.moveaxis(rgb, 0, 2) / 255)


def test_places_are_chosen_in_tissue():
    rng = np.random.default_rng(0)
    tissue = np.full((300, 300), 0.9, np.float32)
    tissue[60:240, 60:240] = rng.random((180, 180))
    alignment = register.align(tissue, tissue, preset="fast", model="local")
    figures = alignment.transform.patch_figures
    count = alignment.transform.grid.count
    known = replace(figures, confidence=tuple(np.linspace(0, 1, count)), expected_error=(None,) * count)
    level = pair.Level(torch.from_numpy(tissue)[None], torch.ones(1, 300, 300), torch.eye(2, 3).double())
    scene = Scene.of(level, level, replace(alignment.transform, patch_figures=known))
    found = zooms.zooms(scene)
    assert [one.title.split(" ")[0] for one in found] == ["Worst", "Median", "Best"]
    for one in found:
        x, y = map(int, re.findall(r"[xy] (\d+)", one.title))
        assert 40 < x < 260
        assert 40 < y < 260


def test_the_view_fades_flickers_and_zooms(aligned, opened):
    page = opened(aligned / "report.html")
    page.get_by_label("fade").check()
    page.focus("#swipe")
    page.keyboard.press("Home")
    assert page.evaluate("getComputedStyle(document.querySelector('.over')).opacity") == "0"
    page.get_by_label("checkerboard").check()
    assert "conic" in page.evaluate("getComputedStyle(document.querySelector('.over')).maskImage")
    page.get_by_role("button", name="Zoom in").click()
    assert "matrix(1.5" in page.evaluate("getComputedStyle(document.querySelector('.stage')).transform")
    page.get_by_role("button", name="all").click()
    assert "matrix(1," in page.evaluate("getComputedStyle(document.querySelector('.stage')).transform")
    page.get_by_role("button", name="flicker").click()
    page.wait_for_selector(".viewer.hidden")
    page.get_by_role("button", name="flicker").click()
    assert page.locator(".viewer.hidden").count() == 0
