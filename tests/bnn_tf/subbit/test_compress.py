"""`compress` and `expand` are inverse, and what `compress` stores is as small as it should be."""

import json
import re

import numpy as np
import pytest

from bnn_tf.errors import UserError
from bnn_tf.subbit import SubBitFileError, compress, compress_file, describe, expand, expand_file
from bnn_tf.subbit import decode as decoder


def one_layer(tools, signs):
    model = tools.build_tflite([tools.pack_filter(signs)])
    data, report = compress(model)
    assert expand(data) == model
    assert describe(data) == (model, report)
    assert report.compressed_bytes == len(data)
    assert report.original_bytes == len(model)
    return report.layers[0]


@pytest.mark.parametrize("bits", [1, 4, 5, 6, 8])
@pytest.mark.parametrize("channels", [(128, 128), (96, 160), (70, 130)])
def test_share_of_the_file(tools, rng, bits, channels):
    layer = one_layer(tools, tools.draw_signs(rng, *channels, 2**bits))
    assert layer.bits == bits
    assert layer.codebook_bytes == -(-9 * 2**bits // 8)
    assert layer.coded_bytes <= (bits / 9 + 0.01) * layer.raw_bytes + layer.codebook_bytes


@pytest.mark.sample(30)
@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (8, 31), (8, 33), (5, 64), (200, 9), (2, 600)])
@pytest.mark.parametrize("patterns", [1, 2, 3, 17, 200, 512])
def test_round_trip(tools, rng, shape, patterns):
    one_layer(tools, tools.draw_signs(rng, *shape, patterns))


def test_index_width_is_that_of_the_patterns_in_use(tools, rng):
    assert one_layer(tools, tools.draw_signs(rng, 64, 64, 17)).bits == 5
    assert one_layer(tools, tools.draw_signs(rng, 64, 64, 16)).bits == 4


def test_skewed_use_is_entropy_coded(tools, rng):
    signs = tools.draw_signs(rng, 128, 128, 64, skew=0.2)
    layer = one_layer(tools, signs)
    patterns = (signs < 0).reshape(128, 9, 128).swapaxes(1, 2) @ (1 << np.arange(9))
    shares = np.unique(patterns, return_counts=True)[1] / patterns.size
    entropy = -(shares * np.log2(shares)).sum()
    assert layer.method == "rans"
    assert layer.bits == 6
    ideal = entropy * patterns.size / 8
    tables = layer.codebook_bytes + 1.5 * layer.patterns + 32
    assert ideal < layer.coded_bytes < 1.002 * ideal + tables


def test_even_use_is_bit_packed(tools, rng):
    layer = one_layer(tools, tools.draw_signs(rng, 64, 64, 32))
    assert layer.method == "packed"
    assert layer.coded_bytes == 16 + 4 + 36 + 64 * 64 * 5 // 8


def test_reversed_channels_do_not_double_the_codebook(tools, rng):
    signs = tools.draw_signs(rng, 64, 40, 32)
    reversed_signs = signs * rng.choice([-1, 1], 64)[:, None, None, None]
    plain, flipped = one_layer(tools, signs), one_layer(tools, reversed_signs)
    assert flipped.patterns == plain.patterns == 32
    assert flipped.coded_bytes == plain.coded_bytes + 64 // 8


def test_full_codebook_stays_raw(tools, rng):
    layer = one_layer(tools, rng.choice([-1, 1], (64, 3, 3, 64)))
    assert (layer.method, layer.bits) == ("raw", 9)
    assert layer.coded_bytes == layer.raw_bytes


def test_other_kernels_stay_raw(tools, rng):
    layer = one_layer(tools, rng.choice([-1, 1], (64, 1, 1, 64)))
    assert (layer.method, layer.bits, layer.patterns) == ("raw", 0, 0)


def test_nothing_to_gain(tools):
    model = tools.build_tflite([])
    data, report = compress(model)
    assert expand(data) == model
    assert "no binary convolution got smaller" in report.note
    assert report.layers == ()


def test_shared_filter_is_stored_once(tools, rng):
    words = [tools.pack_filter(tools.draw_signs(rng, 32, 64, 16)) for _ in range(2)]
    model = tools.build_tflite(words, shared={0})
    data, report = compress(model)
    assert expand(data) == model
    assert len(report.layers) == 2
    assert report.note == ""


def test_report_is_plain(tools, rng):
    model = tools.build_tflite([tools.pack_filter(tools.draw_signs(rng, 64, 32, 16))])
    report = compress(model)[1]
    plain = json.loads(json.dumps(report.to_dict()))
    assert plain["layers"][0]["name"] == "out0"
    assert plain["layers"][0]["shape"] == [64, 3, 3, 1]
    assert plain["binary_raw_bytes"] == 64 * 36
    assert plain["layers"][0]["bits_per_weight"] == pytest.approx(8 * report.coded_bytes / (64 * 32 * 9))


def test_checks_its_own_work(tools, rng, monkeypatch):
    model = tools.build_tflite([tools.pack_filter(tools.draw_signs(rng, 64, 32, 16))])
    monkeypatch.setattr(decoder, "expand_stream", lambda data, target: target.write(model[:-1]))
    with pytest.raises(RuntimeError, match="does not expand"):
        compress(model)


@pytest.mark.parametrize("model", [b"", b"PK\3\4 and more of a zip file", bytes(100)])
def test_not_a_model(model):
    with pytest.raises(UserError, match="no TFLite model"):
        compress(model)


def test_damaged_model_is_kept_or_refused(sample, tools, rng):
    for _ in range(300):
        damaged = sample[0]
        for kind in rng.choice(["bit", "byte", "remove", "cut"], 4):
            damaged = tools.spoil(damaged, kind, *rng.integers(0, 2**32, 2).tolist())
        try:
            data, _ = compress(damaged)
        except UserError:
            continue
        assert expand(data) == damaged


def test_files(sample, tmp_path):
    source, packed, restored = (tmp_path / name for name in ("a.tflite", "a.snn", "b.tflite"))
    source.write_bytes(sample[0])
    report = compress_file(source, packed)
    assert packed.stat().st_size == report.compressed_bytes
    assert expand_file(packed, restored) == len(sample[0])
    assert restored.read_bytes() == sample[0]
    assert set(tmp_path.iterdir()) == {source, packed, restored}


def test_file_errors_name_the_file(sample, tmp_path):
    missing, target = tmp_path / "missing.tflite", tmp_path / "out"
    for function, error in ((compress_file, UserError), (expand_file, SubBitFileError)):
        with pytest.raises(error, match=re.escape(f"{missing}: No such file")):
            function(missing, target)
    broken = tmp_path / "broken"
    broken.write_bytes(sample[1][:-1])
    target.write_bytes(b"older")
    with pytest.raises(SubBitFileError, match=re.escape(f"{broken}: not a whole")):
        expand_file(broken, target)
    with pytest.raises(UserError, match=re.escape(f"{broken}: the model is no TFLite model")):
        compress_file(broken, target)
    assert target.read_bytes() == b"older"
    assert set(tmp_path.iterdir()) == {broken, target}


@pytest.mark.parametrize("function", [compress_file, expand_file])
def test_source_is_not_overwritten(sample, tmp_path, function):
    """Whatever the two paths look like."""
    path, link = tmp_path / "model", tmp_path / "link"
    path.write_bytes(sample[0] if function is compress_file else sample[1])
    content = path.read_bytes()
    link.symlink_to(path)
    for target in (path, tmp_path / "." / "model", link):
        with pytest.raises(UserError, match="is the file to read: name another one"):
            function(path, target)
    assert path.read_bytes() == content


@pytest.mark.parametrize("function", [compress_file, expand_file])
def test_endless_file(tmp_path, function):
    with pytest.raises(UserError, match="/dev/zero is no regular file"):
        function("/dev/zero", tmp_path / "out")


def test_large_files_are_not_read(tmp_path):
    """Sparse files: reading one would take as much memory as its size says."""
    for head, message in ((bytes(8), "no TFLite model"), (b"\x1c\0\0\0TFL3", "larger than 2 GB")):
        with open(tmp_path / "large.tflite", "wb") as file:
            file.write(head)
            file.truncate(2**40)
        with pytest.raises(UserError, match=message):
            compress_file(tmp_path / "large.tflite", tmp_path / "out.snn")
