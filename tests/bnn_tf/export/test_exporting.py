"""`export_c`: files, names, reports, and what the compiled command does."""

import functools
import json
import re
import subprocess

import numpy as np
import pytest

import bnn_tf
import zoo
from bnn_tf._tensorflow import lq, tf
from bnn_tf.deploy import ConversionError
from bnn_tf.deploy.lce_file import to_flatbuffer
from bnn_tf.errors import UsageError, UserError
from bnn_tf.export import check
from bnn_tf.export.int8_weights import levels_of
from bnn_tf.export.lowering import lower
from bnn_tf.export.program import codebook_of, compile_network
from bnn_tf.export.source import Labels, write_source

needs_compiler = pytest.mark.skipif(check.compiler() is None, reason="there is no C compiler on this machine")


@pytest.fixture
def model(tiny, settled):
    return settled(tiny())


@needs_compiler
def test_writes_a_checked_program(model, tmp_path):
    report = bnn_tf.export_c(model, tmp_path / "tiny.c", header=True)
    assert report.parity.agrees
    assert report.proof.difference is None
    assert report.binary_convolutions == 1
    assert "int tiny_run(const float *image, float *logits);" in (tmp_path / "tiny.h").read_text()
    assert "layer by layer" in str(report)
    assert json.loads(json.dumps(report.to_dict()))["ram"] == report.ram


@needs_compiler
@pytest.mark.parametrize("language", ["c", "c++"])
@pytest.mark.parametrize("threads", [1, 4])
def test_compiles_without_warnings(language, threads, model, tmp_path):
    bnn_tf.export_c(model, tmp_path / "net.c", check=False)
    standard = {"c": "-std=c99", "c++": "-std=c++11"}[language]
    flags = ["-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror", "-DNET_MAIN", "-c", "-o", "net.o"]
    flags.append(f"-DNET_THREADS={threads}")
    result = subprocess.run(
        [check.compiler(), "-x", language, standard, *flags, "net.c"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert not result.returncode, result.stderr


@needs_compiler
def test_program_classifies_files(model, tmp_path):
    names = [f'class "{number}"' for number in range(10)]
    bnn_tf.export_c(model, tmp_path / "net.c", classes=names, mean=0.4, std=[0.2, 0.3, 0.4], check=False)
    subprocess.run([check.compiler(), "-DNET_MAIN", "net.c", "-o", "net", "-lm"], cwd=tmp_path, check=True)
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    (tmp_path / "a.ppm").write_bytes(b"P6\n# a comment\n8 8\n255\n" + pixels.tobytes())
    (tmp_path / "a.raw").write_bytes(pixels.tobytes())
    (tmp_path / "bad.ppm").write_bytes(b"P6\n9 8\n255\n" + pixels.tobytes())
    command = [str(tmp_path / "net")]
    out = subprocess.run(
        [*command, "a.ppm", "a.raw"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    first, second = (line.split(":", 1)[1] for line in out.stdout.splitlines())
    image = (pixels / np.float32(255) - np.float32(0.4)) / np.array([0.2, 0.3, 0.4], np.float32)
    best = int(np.argmax(model(image[None].astype(np.float32))))
    assert first == second
    assert re.match(rf"{re.escape(names[best])} \(output [\d.-]+\), class", first.strip())
    usage = subprocess.run([*command, "-h"], capture_output=True, text=True, check=True).stdout
    assert "IMAGE.ppm  8 x 8 pixels" in usage
    assert "logits unless" in usage
    assert subprocess.run([*command, "bad.ppm"], cwd=tmp_path, capture_output=True).returncode == 1
    assert subprocess.run(command, capture_output=True).returncode == 2
    timed = subprocess.run([*command, "-b", "3"], capture_output=True, text=True, check=True)
    assert timed.stdout.startswith("3 runs, 1 thread(s): median ")


@pytest.mark.sample(1)
@needs_compiler
@pytest.mark.parametrize("threads", [2, 7])
def test_threads(threads, model, agrees, exported):
    """They compute every step right, and the same outputs to the last bit."""
    command = [check.compiler(), "-O1", "-march=native", "-ffp-contract=off"]
    flags = [f"-DNET_THREADS={threads}", "-pthread"]
    agrees(model, [*command, *flags])
    program, _, text = exported(model)
    image = np.random.default_rng(2).standard_normal((2, 8, 8, 3), np.float32)
    alone = check.run(program, text, "net", image, command)
    together = check.run(program, text, "net", image, [*command, *flags])
    np.testing.assert_array_equal(together.outputs[0], alone.outputs[0])


@pytest.mark.slow
@needs_compiler
def test_threads_do_not_race(settled, exported):
    model = settled(zoo.CifarResNet20(method="bireal", input_shape=(16, 16, 3), num_classes=10))
    program, _, text = exported(model)
    image = np.random.default_rng(2).standard_normal((2, 16, 16, 3), np.float32)
    command = ["cc", "-O1", "-fsanitize=thread", "-DNET_THREADS=4", "-pthread"]
    check.run(program, text, "net", image, command)


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize("sanitizer", ["address,undefined"])
def test_sanitizers_have_nothing_to_report(sanitizer, settled, agrees):
    import zoo

    model = settled(zoo.CifarResNet20(method="recu", input_shape=(16, 16, 3), num_classes=10))
    for flags in ([], ["-march=native"]):
        command = ["cc", "-O1", *flags, f"-fsanitize={sanitizer}", "-fno-sanitize-recover=all"]
        agrees(model, command)
        agrees(model, command, int8_weights=True)


def test_says_why_nothing_was_checked(model, tmp_path, monkeypatch):
    monkeypatch.setattr(check, "COMPILERS", ())
    report = bnn_tf.export_c(model, tmp_path / "net.c")
    assert report.unchecked == "there is no C compiler on this machine"
    with pytest.raises(UserError, match="no C compiler"):
        bnn_tf.export_c(model, tmp_path / "net.c", check=True)


@needs_compiler
def test_a_wrong_program_is_not_written(model, tmp_path, monkeypatch):
    from bnn_tf.export import source

    pack = source.pack_filters
    monkeypatch.setattr(source, "pack_filters", lambda kernel: 255 - pack(kernel))
    with pytest.raises(ConversionError, match="disagrees with Keras: 'body"):
        bnn_tf.export_c(model, tmp_path / "net.c")
    assert not (tmp_path / "net.c").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "1net"}, "1net"),
        ({"name": "while"}, "while"),
        ({"classes": ["a"]}, "1 names of classes for 10"),
        ({"mean": [0.1, 0.2]}, "2 values for 3 channels"),
        ({"std": 0.0}, "std must be positive"),
    ],
)
def test_refuses_wrong_arguments(options, message, model, tmp_path):
    with pytest.raises(UsageError, match=message):
        bnn_tf.export_c(model, tmp_path / "net.c", check=False, **options)
    assert not list(tmp_path.iterdir())


def test_names_functions_after_the_file(model, tmp_path):
    assert bnn_tf.export_c(model, tmp_path / "my-net 2.c", check=False).name == "my_net_2"
    assert bnn_tf.export_c(model, tmp_path / "18.c", check=False).name == "network_18"


def test_several_outputs(tmp_path):
    image = tf.keras.Input((4, 4, 3))
    value = tf.keras.layers.Conv2D(8, 3)(image)
    model = tf.keras.Model(image, [tf.keras.layers.Flatten()(value), value])
    bnn_tf.export_c(model, tmp_path / "net.c", check=False)
    assert (
        "int net_run(const float *image, float *logits, float *output1)" in (tmp_path / "net.c").read_text()
    )


@pytest.mark.slow
@needs_compiler
def test_codebooks(tmp_path, settled, agrees):
    """Sub-bit kernels take b/9 of the flash and compute the same."""
    model = settled(zoo.CifarResNet20(method="subbit", input_shape=(8, 8, 3), num_classes=10))
    agrees(model, subbit=True)
    plain = bnn_tf.export_c(model, tmp_path / "plain.c", check=False)
    coded = bnn_tf.export_c(model, tmp_path / "coded.c", check=False, subbit=True)
    assert coded.flash < plain.flash
    assert coded.ram > plain.ram
    assert "net_expand" not in (tmp_path / "plain.c").read_text()


@pytest.mark.parametrize(("patterns", "outputs"), [(2, 5), (16, 17), (37, 32), (256, 100)])
def test_indices_of_patterns(patterns, outputs):
    rng = np.random.default_rng(patterns)
    book = rng.choice([-1.0, 1.0], (patterns, 3, 3)).astype(np.float32)
    kernel = np.moveaxis(book[rng.integers(0, patterns, (11, outputs))], (2, 3), (0, 1))
    indices, bits, numbers = codebook_of(kernel)
    assert 2**bits >= len(numbers) > 2 ** (bits - 1) or bits == 1
    table = np.unpackbits(indices, bitorder="little")[: 11 * outputs * bits].reshape(-1, bits)
    decoded = numbers[table @ (1 << np.arange(bits))].reshape(outputs, 11)
    signs = 1 - 2 * (decoded[..., None] >> np.arange(9) & 1).astype(int)
    assert (signs.reshape(outputs, 11, 3, 3).transpose(2, 3, 1, 0) == kernel).all()


def test_no_codebook_for_many_patterns():
    kernel = np.random.default_rng(0).choice([-1.0, 1.0], (3, 3, 64, 64)).astype(np.float32)
    assert codebook_of(kernel) is None


@needs_compiler
def test_int8_weights(model, tmp_path):
    """The program computes what the network with rounded kernels does; the rounding is reported."""
    report = bnn_tf.export_c(model, tmp_path / "net.c", int8_weights=True)
    plain = bnn_tf.export_c(model, tmp_path / "plain.c", check=False)
    assert report.parity.agrees
    assert report.proof.difference is None
    assert report.int8_kernels == report.real_convolutions
    assert report.flash < plain.flash
    assert report.ram == plain.ram
    assert report.rounding.max_difference > 10 * report.parity.max_difference
    assert "with kernels in int8: " in str(report)
    assert json.loads(json.dumps(report.to_dict()))["rounding"]["images"] == 16


@needs_compiler
def test_int8_weights_of_a_converted_file(model, tmp_path):
    content = to_flatbuffer(model)
    report = bnn_tf.export_c(content, tmp_path / "net.c", int8_weights=True)
    assert report.parity.agrees
    assert report.proof.difference is None
    assert report.int8_kernels == report.real_convolutions
    assert report.rounding.max_difference > 10 * report.parity.max_difference


@pytest.mark.parametrize(("shape", "axes"), [((3, 3, 5, 7), 1), ((3, 2, 5, 2), 2), ((40, 1), 1)])
def test_levels(shape, axes):
    rng = np.random.default_rng(0)
    kernel = rng.standard_normal(shape).astype(np.float32) * rng.uniform(0.01, 100, shape[-axes:])
    kernel.reshape(-1, int(np.prod(shape[-axes:])))[:, 0] = 0.0
    levels, steps = levels_of(kernel, axes)
    rounded = levels * steps.reshape(shape[-axes:])
    assert levels.dtype == np.int8
    assert (np.abs(rounded - kernel) <= 0.5001 * steps.reshape(shape[-axes:])).all()
    again, same = levels_of(rounded.astype(np.float32), axes)
    assert (again == levels).all()
    np.testing.assert_allclose(same, steps, rtol=1e-6)


def test_work_is_counted():
    """Taps outside of the map count only where they are signs of one-padding."""
    layers = tf.keras.layers
    signs = {"input_quantizer": "ste_sign", "kernel_quantizer": "ste_sign"}
    binary = functools.partial(lq.layers.QuantConv2D, kernel_size=3, padding="same", use_bias=False, **signs)
    image = tf.keras.Input((4, 4, 3))
    value = layers.Conv2D(8, 3, padding="same")(image)
    ones = binary(6, pad_values=1.0)(value)
    value = layers.DepthwiseConv2D(3, depth_multiplier=2)(binary(5)(ones))
    network, _ = lower(tf.keras.Model(image, layers.Dense(7)(layers.Flatten()(value))))
    inside = 10 * 10  # of 12 · 12 taps
    assert network.work().binary == 16 * 9 * 8 * 6 + inside * 6 * 5
    assert network.work().real == inside * 3 * 8 + 4 * 9 * 10 + 40 * 7


@needs_compiler
@pytest.mark.parametrize("name", ["net", "net_x", "NET_x", "NET"])
def test_prefixes_that_begin_like_the_functions(name, tmp_path):
    image = tf.keras.Input((6, 6, 3))
    x = tf.keras.layers.Conv2D(16, 3, activation="relu")(image)
    bnn_tf.export_c(tf.keras.Model(image, x), tmp_path / f"{name}.c", check=True)


@needs_compiler
@pytest.mark.parametrize("outputs", ["map", "two"])
def test_the_program_of_a_map_and_of_several_outputs(outputs, tmp_path):
    image = tf.keras.Input((6, 6, 3))
    x = tf.keras.layers.Conv2D(2, 3, padding="same")(image)
    flat = tf.keras.layers.Flatten()(x)
    heads = [x] if outputs == "map" else [tf.keras.layers.Dense(2)(flat), tf.keras.layers.Dense(5)(flat)]
    bnn_tf.export_c(tf.keras.Model(image, heads), tmp_path / "net.c", classes=("a", "b"))
    flags = ["-std=c99", "-Wall", "-Werror", "-fsanitize=address,undefined", "-DNET_MAIN"]
    subprocess.run([check.compiler(), *flags, "net.c", "-o", "net", "-lm"], cwd=tmp_path, check=True)
    (tmp_path / "a.raw").write_bytes(bytes(range(108)))
    out = subprocess.run(["./net", "a.raw"], cwd=tmp_path, capture_output=True, text=True, check=True)
    best = [part.split()[0] for part in out.stdout.removeprefix("a.raw:").split(",")]
    assert best
    assert set(best) <= {"a", "b"}


@pytest.mark.parametrize("shape", [(1, 40000, 1), (40000, 1, 1)])
def test_sides_that_do_not_fit_are_refused(shape, tmp_path):
    image = tf.keras.Input(shape)
    x = tf.keras.layers.Conv2D(2, (1, 3), padding="same", name="long")(image)
    model = tf.keras.Model(image, tf.keras.layers.GlobalAveragePooling2D()(x))
    with pytest.raises(ConversionError, match=r"'long': maps of 40,000 pixels a side are too large"):
        bnn_tf.export_c(model, tmp_path / "net.c", check=False)
    assert not (tmp_path / "net.c").exists()


@pytest.mark.parametrize("layer", ["multiply", "normalization"])
def test_constants_along_other_axes_are_refused(layer, tmp_path):
    """As many values as there are channels, but one for each row."""
    image = tf.keras.Input((4, 4, 4))
    if layer == "multiply":
        x = image * np.float32([1, 5, -9, 20]).reshape(4, 1, 1)
    else:
        x = tf.keras.layers.Normalization(axis=1, mean=np.arange(4.0), variance=np.arange(1.0, 5.0))(image)
    model = tf.keras.Model(image, tf.keras.layers.Flatten()(x))
    with pytest.raises(ConversionError, match=layer):
        bnn_tf.export_c(model, tmp_path / "net.c", check=False)


@needs_compiler
def test_relu_of_what_is_not_finite(tmp_path):
    image = tf.keras.Input((1, 1, 16))
    model = tf.keras.Model(image, tf.keras.layers.ReLU()(image))
    images = np.full((1, 1, 1, 16), -np.inf, np.float32)
    program = compile_network(lower(model)[0])
    outcome = check.run(program, write_source(program, "net", Labels()).text, "net", images)
    assert np.array_equal(outcome.outputs[0].ravel(), np.zeros(16))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"path": ""}, "names no file"),
        ({"path": "net.h", "header": True}, "would take the place of the program"),
        ({"classes": "abcdefghij"}, "list of names"),
        ({"classes": list(range(10))}, "list of names"),
        ({"std": 1e-60}, "std must be positive"),
    ],
)
def test_arguments_that_cannot_be_meant(options, reason, model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=reason):
        bnn_tf.export_c(model, **{"path": "net.c", "check": False, **options})
    assert not list(tmp_path.iterdir())
