"""The page of a report: what stands in it, and that it needs nothing else."""

import collections
import csv
import dataclasses
import html
import io
import json
import re
import shutil
import subprocess
import zlib
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from bnn_tf import quantizers
from bnn_tf._tensorflow import lq, tf
from bnn_tf.codebook import all_patterns
from bnn_tf.errors import UserError
from bnn_tf.report import page

SUBBIT = ("codebook", "pattern_entropy", "sign_entropy", "histogram")
RECU = ("tau", "dead_share", "quantization_error", "histogram")


def plan(**changes):
    recipe = {
        "method": {"name": "subbit", "bits": 5},
        "model": "small",
        "dataset": "cifar10",
        "phases": [
            {"name": "first", "epochs": 2},
            {"name": "second", "epochs": 9, "schedule": {"name": "cosine", "warmup": 1}},
        ],
        "published_top1": 0.755,
        "published_top5": None,
        "note": "the paper's settings",
    }
    return {**recipe, **changes}


def network():
    convs = [
        lq.layers.QuantConv2D(6, 3, kernel_quantizer=quantizers.ScaledSign(), name="plain"),
        lq.layers.QuantConv2D(6, 3, kernel_quantizer=quantizers.SubBit(bits=2), name="sub_bit"),
    ]
    return tf.keras.Sequential([tf.keras.Input((8, 8, 5)), *convs])


@pytest.fixture(scope="module")
def built():
    return network()


@pytest.fixture
def seen(rng):
    """Predictions of three classes: the first two are often confused, the third has no images."""
    logits = np.array([[3.0, 1, 0], [1, 3, 0], [5, 0, 0], [0, 2, 0]])
    labels = np.array([0, 0, 1, 1])
    images = np.arange(4 * 2 * 2 * 3, dtype=np.float32).reshape(4, 2, 2, 3)
    places = iter(logits)
    return page.predictions(
        lambda batch: np.array([next(places) for _ in batch]),
        [(images[:3], labels[:3]), (images[3:], labels[3:])],
        ("cat", "dog", "<b>bird</b>"),
        lambda inputs: inputs.astype(np.uint8),
    )


@pytest.fixture
def material(rows, records, built, seen):
    actual = plan(method={"name": "subbit", "bits": 2})
    actual["phases"] = [
        actual["phases"][0],
        {**actual["phases"][1], "epochs": 4, "schedule": {"name": "cosine", "warmup": 0}},
    ]
    return page.Material(
        name="my-run",
        config={"recipe": actual, "seed": 3, "limit": 100},
        recipe=plan(),
        environment={"python": "3.11", "packages": {"larq": "0.14.0"}},
        metrics=rows,
        records=records,
        network=built,
        diagnostics=SUBBIT,
        predictions=seen,
        converted=page.Converted("model.tflite", 1234, ("2 LceBconv2d", "1 CONV_2D")),
    )


class Page(HTMLParser):
    """The texts, headings, links and scripts of a page, and what it would load."""

    def __init__(self, text):
        super().__init__()
        self.words, self.links, self.headings, self.open = [], [], [], []
        self.scripts, self.loaded = [], []
        self.feed(text)
        self.text = " ".join(" ".join(self.words).split())
        self.loaded += re.findall(r"(?:@import\b|\burl\()[^;)]*", text)
        self.loaded = [name for name in self.loaded if not re.match(r"(url\(['\"]?)?(#|data:)", name)]

    def handle_starttag(self, tag, attributes):
        if tag not in ("meta", "link", "img", "br", "hr", "input"):  # these have no end
            self.open.append(tag)
        for name, value in attributes:
            if name == "href" and tag == "a":
                self.links.append(value)
            elif name.partition(":")[2] == "href" or name in (
                *("href", "src", "srcset", "data", "poster", "action", "formaction", "background"),
                *("http-equiv", "ping", "srcdoc"),
            ):
                self.loaded += [] if value.startswith(("#", "data:")) else [value]
            elif name.startswith("on"):
                self.scripts.append(value)

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts.append(data.strip())
            return
        self.words.append(data)
        if self.open and self.open[-1] in ("h2", "h3"):
            self.headings.append(data.strip())

    def handle_endtag(self, tag):
        while self.open and self.open.pop() != tag:
            pass


def written(tmp_path, *materials):
    report = page.write(materials, tmp_path / "report.html")
    return report, Page(report.path.read_text())


def test_result_beside_the_papers(material, tmp_path):
    report, shown = written(tmp_path, material)
    (figures,) = report.figures
    assert (figures["epochs"], figures["epochs_planned"]) == (5, 6)
    assert figures["top1"] == pytest.approx(0.7)
    assert (figures["best_top1"], figures["best_epoch"]) == (pytest.approx(0.8), 2)
    assert figures["difference"] == pytest.approx(-0.055)
    assert figures["cost"]["binary_parameters"] == 9 * 5 * 6 + 9 * 6 * 6
    assert json.loads(json.dumps(report.to_dict())) == report.to_dict()
    for words in (
        "subbit · small · cifar10",
        "70.00 % top-1, epoch 5 of 6",
        "80.00 % best epoch: 2 of second",
        "75.50 % the paper, 11 epochs",
        "paper, 11 epochs, 75.5 %",
        "-5.50 points from the paper",
        "The run is not complete: 5 of 6 epochs.",
        "Only 100 images of each split were used.",
        "second.epochs: 9 → 4",
        "second.schedule.warmup: 1 → 0",
        "method.bits: 5 → 2",
        "larq 0.14.0",
        "2 LceBconv2d, 1 CONV_2D",
    ):
        assert words in shown.text


def test_the_page_needs_nothing_else(material, tmp_path):
    report, shown = written(tmp_path, material)
    assert shown.loaded == []
    inside = [link for link in shown.links if link.startswith("#")]
    assert sorted(set(shown.links) - set(inside)) == sorted(path.name for path in report.tables)
    assert "http" not in re.sub(r"http://www.w3.org/2000/svg", "", report.path.read_text())


def test_the_only_script_is_the_pages_own(material, tmp_path):
    (script,) = Page((Path(page.__file__).parent / "page.html.j2").read_text()).scripts
    hostile = "</script><script>alert(1)</script><b onclick=alert(1)>"
    config = {**material.config, "recipe": {**material.config["recipe"], "note": hostile}}
    shown = written(tmp_path, dataclasses.replace(material, name=hostile, config=config))[1]
    assert shown.scripts == [script]
    assert not re.search(r"fetch|import|XMLHttp|src|http|eval", script)


@pytest.mark.parametrize(
    "foreign",
    [
        '<script src="https://example.org/a.js"></script>',
        '<img src="//example.org/a.png">',
        '<img srcset="a.png 2x">',
        '<link rel="stylesheet" href="style.css">',
        "<style>@import 'style.css';</style>",
        "<style>b { background: url(picture.png) }</style>",
        '<svg><use xlink:href="icons.svg#a"/></svg>',
        '<meta http-equiv="refresh" content="0">',
    ],
)
def test_what_a_page_would_load_is_found(foreign):
    inside = '<link rel="icon" href="data:,"><img src="data:image/png;base64,AA=="><a href="#run-1">run</a>'
    inside += "<style>b { fill: url(#shade); background: url('data:,') }</style>"
    assert Page(inside).loaded == []
    assert Page(inside + foreign).loaded


def test_names_are_no_markup(material, tmp_path):
    text = written(tmp_path, dataclasses.replace(material, name="<i>x</i>"))[0].path.read_text()
    assert "<b>bird</b>" not in text
    assert "<i>x</i>" not in text


def test_only_what_the_method_declares(material, tmp_path):
    text = written(tmp_path, material)[1].text
    assert "Codebooks" in text
    assert "Q(τ)" not in text
    text = written(tmp_path, dataclasses.replace(material, diagnostics=RECU))[1].text
    assert "weights outside ±Q(τ)" in text
    text = written(tmp_path, dataclasses.replace(material, diagnostics=()))[1].text
    assert "What to watch" not in text
    assert "Latent weights" not in text


def test_the_start_and_the_flips_of_the_epochs_are_drawn(material, records, tmp_path):
    started = [{**record, "epoch": record["epoch"] - 1, "epoch_flips": 0.25} for record in records]
    changed = dataclasses.replace(material, records=started, diagnostics=("epoch_flips", *SUBBIT))
    report, shown = written(tmp_path, changed)
    assert report.figures[0]["layers"]["plain"]["epoch_flips"] == 0.25
    assert "signs that changed in the epoch (%)" in shown.text
    assert re.search(r"\bstart\b.*\bepoch 2\b", shown.text)


def test_a_figure_of_another_packages_method_is_drawn(material, rows, tmp_path):
    watched = [{**row, "my_figure": "0.5"} for row in rows]
    changed = dataclasses.replace(material, metrics=watched, diagnostics=("my_figure", "unknown"))
    assert "my figure" in written(tmp_path, changed)[1].text


def test_imported_weights_have_no_epochs(material, tmp_path):
    report, shown = written(tmp_path, dataclasses.replace(material, metrics=[], records=[]))
    (figures,) = report.figures
    assert (figures["epochs"], figures["top1"], figures["published_top1"]) == (0, None, 0.755)
    assert "the weights were imported" in shown.text
    assert "top-1 accuracy (%)" not in shown.text
    assert [path.name for path in report.tables][0] == "report.layers.csv"
    rows = (tmp_path / "report.histograms.csv").read_text().splitlines()[1:]
    assert [row[: row.index(",", 2)] for row in rows] == [",,plain", ",,sub_bit"]


def test_real_network_without_published_result(material, tmp_path):
    recipe = plan(published_top1=None)
    real = tf.keras.Sequential([tf.keras.Input((8, 8, 5)), tf.keras.layers.Conv2D(4, 3)])
    config = {**material.config, "recipe": recipe, "limit": None}
    changed = dataclasses.replace(
        material, config=config, recipe=recipe, records=[], network=real, diagnostics=()
    )
    report, shown = written(tmp_path, changed)
    assert "The paper has no result" in shown.text
    assert report.figures[0]["differences"] == []
    assert report.figures[0]["difference"] is None


def test_several_runs_are_compared(material, tmp_path):
    config = {**material.config, "seed": 4}
    other = dataclasses.replace(material, name="other-run", config=config)
    report, shown = written(tmp_path, material, other)
    assert "2 runs" in shown.text
    assert "Settings that differ setting my-run other-run seed 3 4" in shown.text
    assert {"report.my-run.metrics.csv", "report.other-run.classes.csv"} <= {p.name for p in report.tables}


def test_runs_of_one_name_keep_their_tables_and_headings_apart(material, rows, tmp_path):
    other = dataclasses.replace(material, metrics=rows[:2])
    report, shown = written(tmp_path, material, other)
    assert len({path.name for path in report.tables}) == len(report.tables) == 14
    lengths = [
        len((tmp_path / f"report.{name}.metrics.csv").read_text().splitlines())
        for name in ("1-my-run", "2-my-run")
    ]
    assert lengths == [1 + 5, 1 + 2]
    assert {f"{name}: subbit · small · cifar10" for name in ("1-my-run", "2-my-run")} <= set(shown.headings)
    report, _ = written(tmp_path, material, dataclasses.replace(material, name="My run"))
    assert len({path.name.lower() for path in report.tables}) == 14
    report, _ = written(tmp_path, *(dataclasses.replace(material, name=name) for name in ("a b", "a_b")))
    assert len({path.name for path in report.tables}) == 14


def test_tables(material, tmp_path):
    report, _ = written(tmp_path, material)
    tables = {path.name: list(csv.reader(io.StringIO(path.read_text()))) for path in report.tables}
    assert set(tables) == {
        *(f"report.{name}.csv" for name in ("metrics", "layers", "classes", "confusion")),
        *(f"report.{name}.csv" for name in ("layer-epochs", "histograms", "codebooks")),
    }
    assert len(tables["report.metrics.csv"]) == 1 + 5
    assert tables["report.classes.csv"][1:] == [
        ["cat", "2", "0.5"], ["dog", "2", "0.5"], ["<b>bird</b>", "0", ""],
    ]  # fmt: skip
    assert tables["report.confusion.csv"][1] == ["cat", "1", "1", "0"]


def test_tables_of_layers_hold_what_the_charts_show(material, records, tmp_path):
    report, shown = written(tmp_path, material)
    assert {"layer-epochs", "histograms", "codebooks"} <= set(shown.text.replace(",", "").split())
    tables = {
        name: list(csv.DictReader(io.StringIO((tmp_path / f"report.{name}.csv").read_text())))
        for name in ("layer-epochs", "histograms", "codebooks")
    }
    places = [("second", str(r["epoch"]), r["layer"]) for r in records]
    places += [("", "", "plain"), ("", "", "sub_bit")]  # the saved weights
    for name in ("layer-epochs", "histograms"):
        assert [(row["phase"], row["epoch"], row["layer"]) for row in tables[name]] == places
    first, counts = tables["layer-epochs"][0], tables["histograms"][0]
    assert set(first) == {"phase", "epoch", "layer", "pattern_entropy", "sign_entropy"}
    assert float(first["sign_entropy"]) == records[0]["sign_entropy"]
    assert [int(counts[f"{-12 + 0.5 * bin:g}"]) for bin in range(48)] == records[0]["histogram"]

    book = [row for row in tables["codebooks"] if row["epoch"] == "2"]
    assert [[int(row["pattern"]), int(row["slices"])] for row in book] == records[3]["codebook"]
    assert {row["layer"] for row in tables["codebooks"]} == {"sub_bit"}
    assert sum(float(row["share"]) for row in book) == pytest.approx(1, abs=1e-4)
    signs = [[int(row[f"sign_{place}"]) for place in range(9)] for row in book]
    np.testing.assert_array_equal(signs, all_patterns()[[int(row["pattern"]) for row in book]])


def test_figures_that_the_method_does_not_declare_have_no_table(material, tmp_path):
    names = {p.name for p in written(tmp_path, dataclasses.replace(material, diagnostics=RECU))[0].tables}
    assert {"report.layer-epochs.csv", "report.histograms.csv"} <= names
    header = (tmp_path / "report.layer-epochs.csv").read_text().splitlines()[0]
    assert header == "phase,epoch,layer,tau,dead_share,quantization_error"
    bare = written(tmp_path, dataclasses.replace(material, diagnostics=()))[0]
    assert not {"report.layer-epochs.csv", "report.histograms.csv"} & {p.name for p in bare.tables}


def test_a_folder_that_is_not_there(material, tmp_path):
    with pytest.raises(UserError, match="there is no folder"):
        page.write([material], tmp_path / "nowhere" / "report.html")


class TestPredictions:
    def test_mistakes_come_worst_first(self, seen):
        assert [(m.label, m.answer) for m in seen.mistakes] == [(1, 0), (0, 1)]
        assert seen.mistakes[0].confidence == pytest.approx(1 / (1 + 2 * np.exp(-5)))
        np.testing.assert_array_equal(seen.mistakes[0].image, np.arange(24, 36).reshape(2, 2, 3))

    def test_confusions(self, seen):
        assert sorted(seen.confusions()) == [(0, 1, 1), (1, 0, 1)]

    def test_only_the_worst_are_kept(self):
        logits = np.eye(3)[[1] * 9] * np.arange(1, 10)[:, None]
        images = np.arange(9, dtype=np.float32).reshape(9, 1, 1, 1)
        kept = page.predictions(
            lambda batch: logits[batch[:, 0, 0, 0].astype(int)],
            [(images[i : i + 2], np.zeros(len(images[i : i + 2]), int)) for i in range(0, 9, 2)],
            "abc",
            lambda inputs: inputs.astype(np.uint8),
            worst=2,
        )
        assert [int(m.image.item()) for m in kept.mistakes] == [8, 7]


@pytest.mark.parametrize("shape", [(3, 4, 3), (5, 2, 1)])
def test_png(shape, rng):
    image = rng.integers(256, size=shape, dtype=np.uint8)
    np.testing.assert_array_equal(tf.io.decode_png(page.png(image)).numpy(), image)


@pytest.fixture
def short(material):
    """A run of a recipe for a short budget, for which the paper has no result."""
    config = {**material.config, "recipe": plan(published_top1=None)}
    full = {"published_top1": 0.875, "epochs": 600}
    return dataclasses.replace(material, name="short", config=config, full_recipe=full)


def test_the_papers_full_recipe_stands_beside_a_shorter_one(short, tmp_path):
    report, shown = written(tmp_path, short)
    assert "87.50 % the paper's full recipe, 600 epochs" in shown.text
    assert "paper, 600 epochs, 87.5 %" in shown.text  # the line in the chart
    assert "The paper has no result" not in shown.text
    assert report.figures[0]["difference"] is None


def test_the_papers_epochs_stand_in_the_table_of_several_runs(short, material, tmp_path):
    none = plan(published_top1=None)
    without = dataclasses.replace(
        material, name="without", config={**material.config, "recipe": none}, recipe=none
    )
    shown = written(tmp_path, material, short, without)[1]
    what = "subbit · small · cifar10"
    assert "paper difference my-run" in shown.text
    assert "75.50 % in 11 epochs -5.50" in shown.text
    assert f"short {what} 5 / 11 70.00 % 80.00 % 87.50 % in 600 epochs" in shown.text
    assert f"without {what} 5 / 11 70.00 % 80.00 % –" in shown.text
    assert f"paper: {what}, 600 epochs, 87.5 %" in shown.text
    assert "best paper short" in written(tmp_path, short, without)[1].text  # no difference is known


@pytest.mark.parametrize(
    ("data_dir", "name"),
    [("/home/me/pictures", "pictures"), ("birds/", "birds"), ("/", "folder"), (None, "folder")],
)
def test_own_pictures_are_called_after_their_folder(material, data_dir, name, tmp_path):
    config = {**material.config, "recipe": plan(dataset="folder"), "data_dir": data_dir}
    shown = written(tmp_path, dataclasses.replace(material, config=config))[1]
    assert f"subbit · small · {name} " in shown.text
    config["recipe"] = plan()  # a dataset of a known name keeps it
    shown = written(tmp_path, dataclasses.replace(material, config=config))[1]
    assert "subbit · small · cifar10 " in shown.text


def test_a_run_that_was_not_converted_says_how(material, tmp_path):
    shown = written(tmp_path, dataclasses.replace(material, converted=None))[1]
    assert "The run was not converted: bnn-tf convert my-run does it" in shown.text


def test_a_converted_file_that_is_gone(material, tmp_path):
    gone = dataclasses.replace(material.converted, agreement="all alike", remark="The file is gone.")
    shown = written(tmp_path, dataclasses.replace(material, converted=gone))[1]
    assert "model.tflite , 1,234 bytes. Operators: 2 LceBconv2d, 1 CONV_2D." in shown.text
    assert "Agreement with Keras: all alike. The file is gone." in shown.text
    unknown = page.Converted("model.tflite", 1234, (), remark="It cannot be read.")
    shown = written(tmp_path, dataclasses.replace(material, converted=unknown))[1]
    assert "model.tflite , 1,234 bytes. Agreement with Keras: not recorded" in shown.text


def test_a_phase_that_is_left_out_is_one_line(material, tmp_path):
    config = {**material.config, "recipe": plan(phases=plan()["phases"][1:])}
    report, _ = written(tmp_path, dataclasses.replace(material, config=config))
    assert report.figures[0]["differences"] == ["phase first left out"]


def test_differing_settings_of_phases_that_not_all_runs_have():
    runs = [{"phases": [{"name": name, "epochs": n} for name, n in phases]} for phases in (
        [("a", 1), ("b", 5)], [("b", 5)], [("a", 2), ("b", 5)],
    )]  # fmt: skip
    assert page.differing(runs) == {
        "phases.a": ["included", None, "included"], "phases.a.epochs": [1, None, 2],
    }  # fmt: skip
    assert page.differing(runs[:2]) == {"phases.a": ["included", None]}


def test_differing():
    first = {"recipe": {"phases": [{"name": "a", "epochs": 1}], "note": "x"}, "seed": 1}
    second = {"recipe": {"phases": [{"name": "a", "epochs": 2}], "note": "y"}, "seed": 1, "limit": 5}
    assert page.differing([first, second]) == {"phases.a.epochs": [1, 2], "limit": [None, 5]}


@pytest.fixture
def chromium():
    """`chromium(path, *options)` opens a page without a window; the test is skipped where there is none."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("needs Chromium")

    def run(path, *options):
        fixed = ("--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr")
        done = subprocess.run(
            [browser, *fixed, *map(str, options), path.as_uri()],
            capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
        assert "CONSOLE" not in done.stderr
        return done.stdout

    return run


# Blink's own numbers: 0 is dark, 1 is light.
DARK, LIGHT = ("--blink-settings=preferredColorScheme=0", "--blink-settings=preferredColorScheme=1")


@pytest.mark.slow
@pytest.mark.parametrize("width", [1300, 390])
@pytest.mark.parametrize(("scheme", "paper"), [(LIGHT, [255, 255, 255]), (DARK, [20, 23, 27])])
def test_a_browser_has_nothing_to_complain_of(material, width, scheme, paper, chromium, tmp_path):
    report = page.write([material, material], tmp_path / "report.html")
    picture = tmp_path / "page.png"
    chromium(report.path, scheme, f"--window-size={width},3000", f"--screenshot={picture}")
    pixels = tf.io.decode_png(picture.read_bytes(), channels=3).numpy()
    lightness = pixels.astype(int).mean(axis=-1)
    assert pixels[0, 0].tolist() == pixels[-1, 0].tolist() == paper
    # Nothing is left in the other scheme's colours, and what is written can be read.
    page_side = lightness > 128 if sum(paper) > 384 else lightness < 128
    assert 0.85 < page_side.mean() < 0.999
    assert np.abs(lightness - np.mean(paper)).max() > 180


@pytest.mark.slow
def test_the_page_prints_in_black_on_white(material, chromium, tmp_path):
    report = page.write([material], tmp_path / "report.html")
    colors = []
    for number, scheme in enumerate((LIGHT, DARK)):
        file = tmp_path / f"{number}.pdf"
        chromium(report.path, scheme, f"--print-to-pdf={file}")
        content = file.read_bytes()
        assert content.startswith(b"%PDF-")
        assert len(re.findall(rb"/Type\s*/Page\b", content)) >= 2
        filled = collections.Counter()
        for stream in re.findall(rb"/FlateDecode.*?stream\r?\n(.*?)endstream", content, re.DOTALL):
            filled.update(re.findall(rb"[\d.]+ [\d.]+ [\d.]+ rg\b", zlib.decompress(stream)))
        colors.append(filled)
    assert colors[0] == colors[1]
    assert b"0 0 0 rg" in colors[0]
    assert b".1059 .1216 .1412 rg" not in colors[0]  # the dark grey of texts on a screen


@pytest.mark.slow
def test_a_phone_need_not_scroll_sideways(material, chromium, tmp_path):
    phases = [{**phase, "regularization": "a_long_word_without_spaces" * 3} for phase in plan()["phases"]]
    config = {**material.config, "recipe": plan(phases=phases)}
    written = page.write([dataclasses.replace(material, config=config)], tmp_path / "report.html")
    frame = f'<iframe width="375" height="800" srcdoc="{html.escape(written.path.read_text())}"></iframe>'
    script = "document.title = document.querySelector('iframe').contentDocument.documentElement.scrollWidth"
    (tmp_path / "phone.html").write_text(f"{frame}<script>onload = () => {{ {script} }}</script>")
    shown = chromium(tmp_path / "phone.html", "--dump-dom")
    assert 0 < int(re.search(r"<title>(\d+)</title>", shown)[1]) <= 375
