import os
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

from bnn_tf import data


def paths(source, split="train"):
    return [Path(path) for path, _ in source.split(split).files]


def rename(folder, name):
    os.rename(folder / "val", folder / name)
    return folder


@pytest.mark.parametrize("held_out", ["val", "validation", "test"])
def test_layout(folder, held_out):
    source = data.load("folder", rename(folder, held_out))
    assert source.class_names == ["ant", "bee", "cat"]
    assert source.num_classes == 3
    assert (source.size("train"), source.size("test")) == (21, 9)
    for split in ("train", "test"):
        files = source.split(split).files
        assert [Path(path).parent.name for path, _ in files] == [
            source.class_names[label] for _, label in files
        ]


def test_any_name_reads_a_folder_where_there_is_one(folder):
    source = data.load("imagenet2012", folder)
    assert (source.name, source.size("train")) == ("imagenet2012", 21)


def test_other_files_are_passed_over(folder):
    for name in ("Thumbs.db", ".hidden.jpg", "notes.txt"):
        (folder / "train" / "ant" / name).write_text("")
    (folder / "train" / ".cache").mkdir()
    assert data.load("folder", folder).size("train") == 21


def test_evaluation_reads_the_files_in_order(folder):
    source = data.load("folder", folder)
    pre = data.Images()
    labels = np.concatenate([y for _, y in data.evaluation_batches(source, pre, 4).as_numpy_iterator()])
    assert labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_limit_takes_evenly_spaced_files_of_all_classes(folder):
    source = data.load("folder", folder, limit=3)
    assert [label for _, label in source.split("train").files] == [0, 1, 2]
    assert len(set(paths(source))) == 3
    assert data.load("folder", folder, limit=1000).size("train") == 21


@pytest.fixture
def tiny_imagenet(folder):
    """The same images, laid out as Tiny-ImageNet is distributed."""
    for name in ("ant", "bee", "cat"):
        images = folder / "train" / name / "images"
        images.mkdir()
        for path in (folder / "train" / name).glob("*.*"):
            path.rename(images / path.name)
        (folder / "train" / name / f"{name}_boxes.txt").write_text("0.JPEG\t0\t0\t1\t1\n")
    lines = []
    (folder / "val" / "images").mkdir()
    for path in sorted((folder / "val").glob("*/*.*")):
        path.rename(folder / "val" / "images" / f"{path.parent.name}_{path.name}")
        lines.append(f"{path.parent.name}_{path.name}\t{path.parent.name}\t0\t0\t44\t62\n")
    (folder / "val" / "val_annotations.txt").write_text("".join(reversed(lines)))
    return folder


def test_tiny_imagenet_as_distributed(tiny_imagenet):
    source = data.load("tiny_imagenet", tiny_imagenet)
    assert (source.size("train"), source.size("test")) == (21, 9)
    assert [label for _, label in source.split("test").files] == [2, 2, 2, 1, 1, 1, 0, 0, 0]
    assert {path.parent.name for path in paths(source)} == {"images"}
    assert len(data.take(source, data.Images(), 9)[1]) == 9


def test_tiny_imagenet_with_an_unknown_class(tiny_imagenet):
    with (tiny_imagenet / "val" / "val_annotations.txt").open("a") as file:
        file.write("dog_0.JPEG\tdog\t0\t0\t44\t62\n")
    with pytest.raises(data.DataError, match=r"line 10 of .*val_annotations.txt.*'dog_0"):
        data.load("tiny_imagenet", tiny_imagenet)


def test_missing_data_dir(tmp_path):
    with pytest.raises(data.DataError, match=r"nowhere does not exist"):
        data.load("folder", tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["folder", "tiny_imagenet"])
def test_no_data_dir(name):
    with pytest.raises(data.DataError, match=rf"{name} is read from an image folder .* say where it is"):
        data.load(name)


@pytest.mark.parametrize("name", ["folder", "tiny_imagenet"])
def test_wrong_layout(tmp_path, name):
    (tmp_path / "images").mkdir()
    with pytest.raises(data.DataError, match=r"image folder.*train/<class>/\*"):
        data.load(name, tmp_path)


@pytest.mark.parametrize("flat", [False, True])
def test_a_share_is_held_out_where_there_is_one_folder_only(folder, flat):
    shutil.rmtree(folder / "val")
    source = data.load("folder", folder / "train" if flat else folder)
    assert str(data.describe(source)).startswith("3 classes, 18 + 3 images, ")
    assert {label for _, label in source.test.files} == {0, 1, 2}
    assert not set(paths(source)) & set(paths(source, "test"))
    (folder / "train" / "ant" / "new.png").write_bytes((folder / "train" / "ant" / "2.png").read_bytes())
    again = data.load("folder", folder / "train" if flat else folder)
    assert set(paths(source, "test")[1:]) <= set(paths(again, "test"))


def test_the_one_folder_needs_two_images_of_a_class(folder):
    shutil.rmtree(folder / "val")
    for path in sorted((folder / "train" / "bee").iterdir())[1:]:
        path.unlink()
    with pytest.raises(data.DataError, match=r"one image only of a class, .*bee/0.JPEG"):
        data.load("folder", folder)


def test_numbered_classes_in_alphabetic_order_are_pointed_out(folder, recwarn):
    for split in ("train", "val"):
        for old, new in (("ant", "1"), ("bee", "2"), ("cat", "10")):
            os.rename(folder / split / old, folder / split / new)
    with pytest.warns(
        UserWarning, match=r"are numbers in alphabetic order \(1, 10, 2\): label 1 .* folder 10"
    ):
        data.load("folder", folder)


def test_pixels_are_those_of_a_sample(folder, write_picture, rng):
    write_picture(folder / "train" / "ant" / "wide.png", rng.integers(0, 255, (5, 333, 3), dtype=np.uint8))
    assert data.describe(data.load("folder", folder)).pixels == (5, 333)


def test_images_without_class_folders(folder):
    for path in list((folder / "train").glob("*/*")):
        path.rename(folder / "train" / f"{path.parent.name}_{path.name}")
    for name in ("ant", "bee", "cat"):
        (folder / "train" / name).rmdir()
    with pytest.raises(data.DataError, match="train holds no class folders"):
        data.load("folder", folder)


def test_one_class_only(folder):
    for split in ("train", "val"):
        for name in ("bee", "cat"):
            shutil.rmtree(folder / split / name)
    with pytest.raises(data.DataError, match="train holds one class only, ant"):
        data.load("folder", folder)


def test_empty_class_folder(folder):
    for path in (folder / "val" / "bee").iterdir():
        path.unlink()
    with pytest.raises(data.DataError, match="class folder .*val/bee holds no images"):
        data.load("folder", folder)


def test_classes_that_differ(folder):
    os.rename(folder / "val" / "bee", folder / "val" / "wasp")
    with pytest.raises(data.DataError, match="missing bee; not in train: wasp"):
        data.load("folder", folder)


def spoil(path, how):
    contents = path.read_bytes()
    if how == "gone":
        path.unlink()
    else:
        path.write_bytes({"cut": contents[:120], "junk": b"not an image", "empty": b""}[how])


@pytest.mark.sample(2)
@pytest.mark.parametrize("how", ["cut", "junk", "empty", "gone"])
def test_a_corrupt_image_is_named(folder, how):
    source = data.load("folder", folder)
    path = folder / "train" / "bee" / "3.JPEG"
    spoil(path, how)
    reason = {"gone": "does not exist", "empty": "is empty", "junk": "is no image", "cut": "is .*cut off"}[
        how
    ]
    with pytest.raises(data.DataError, match=rf"^cannot read or decode the image {path}: it {reason}"):
        data.take(source, data.Images(), 21, "train")


def test_a_corrupt_image_is_named_in_the_middle_of_training(folder):
    source = data.load("folder", folder)
    batches = data.training_batches(
        source, data.Images((data.RandomResizedCrop(), data.Flip()), size=16), 4, epochs=3
    )
    path = folder / "train" / "bee" / "3.JPEG"
    spoil(path, "cut")
    with (
        pytest.raises(data.DataError, match=rf"^cannot read or decode the image {path}: it is .*cut off"),
        data.clear_errors(),
    ):
        list(batches)


def test_names_beyond_ascii(folder):
    path = folder / "train" / "bee" / "größe's \\ 蜂.JPEG"
    os.rename(folder / "train" / "bee" / "3.JPEG", path)
    source = data.load("folder", folder)
    assert len(data.take(source, data.Images(), 21, "train")[1]) == 21
    spoil(path, "junk")
    with pytest.raises(data.DataError) as error:
        data.take(source, data.Images(), 21, "train")
    assert str(path) in str(error.value)


@pytest.mark.parametrize("place", [0, 20])
def test_it_is_named_wherever_it_stands_in_the_pass(folder, place):
    source = data.load("folder", folder)
    path = paths(source)[place]
    spoil(path, "junk")
    with pytest.raises(data.DataError, match=str(path)):
        data.take(source, data.Images(), 21, "train")


def test_the_last_images_of_an_epoch_are_named_too(folder):
    """Their whole batch is missing then."""
    source = data.load("folder", folder)
    spoil(paths(source)[-1], "cut")
    batches = data.evaluation_batches(source, data.Images(), 20, split="train")
    with pytest.raises(data.DataError, match=str(paths(source)[-1])), data.clear_errors():
        list(batches)


def test_a_corrupt_image_stops_model_fit_with_its_name(folder):
    from bnn_tf._tensorflow import tf

    source = data.load("folder", folder)
    spoil(folder / "train" / "cat" / "0.JPEG", "cut")
    model = tf.keras.Sequential([tf.keras.layers.Flatten(), tf.keras.layers.Dense(3)])
    model.compile("sgd", tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    batches = data.training_batches(source, data.Images(), 8, epochs=2)
    with pytest.raises(data.DataError, match="cat/0.JPEG"), data.clear_errors():
        model.fit(batches, epochs=2, steps_per_epoch=data.steps(source, "train", 8), verbose=0)


def test_other_errors_pass_unchanged():
    from bnn_tf._tensorflow import tf

    with pytest.raises(tf.errors.InvalidArgumentError, match="something else"), data.clear_errors():
        tf.debugging.Assert(False, ["something else"])


@pytest.mark.parametrize(("make", "message"), [(os.mkfifo, "is a pipe"), (os.mkdir, "is a folder")])
def test_what_only_has_the_name_of_an_image_is_named(folder, make, message):
    """Reading a pipe would wait for ever."""
    make(folder / "train" / "bee" / "x.png")
    with pytest.raises(data.DataError, match=rf"bee/x.png is named like an image but {message}"):
        data.load("folder", folder)


def huge_png(side):
    """A picture of one colour: some kilobytes that decode to gigabytes."""

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    pixels = zlib.compress(bytes(side // 8 + 1) * side)
    size = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def test_a_huge_picture_is_refused_by_name(folder):
    path = folder / "train" / "ant" / "0.png"
    path.write_bytes(huge_png(20_000))
    source = data.load("folder", folder)
    with pytest.raises(data.DataError, match=rf"{path}: it has 20000×20000 pixels; 100,000,000 in all"):
        data.take(source, data.Images(), 22, "train")


class TestCheck:
    def test_all_faults_in_one_go(self, folder):
        assert data.check(folder).faults == ()
        for name, contents in {"a.jpg": b"", "b.png": b"no image", "c.heic": b"x", "notes.txt": b""}.items():
            (folder / "train" / "bee" / name).write_bytes(contents)
        os.mkfifo(folder / "val" / "cat" / "pipe.bmp")
        os.symlink("nowhere", folder / "val" / "cat" / "link.gif")
        spoil(folder / "val" / "ant" / "0.JPEG", "cut")
        spoil(folder / "val" / "ant" / "2.png", "cut")
        result = data.check(folder)
        faults = {Path(path).name: fault for path, fault in result.faults}
        assert result.images == 28
        assert faults.pop("0.JPEG") == "is a JPEG image that is damaged or cut off"
        assert faults.pop("2.png") == "is a PNG image that is damaged or cut off"
        misnamed = faults.pop("b.png")
        assert misnamed.startswith("is no image of a kind that is read (.jpg,")
        assert misnamed.endswith("whatever its name says")
        assert faults.pop("c.heic").startswith("is no image of a kind that is read (.jpg,")
        assert faults == {
            "a.jpg": "is empty",
            "pipe.bmp": "is a pipe or a device, not a file",
            "link.gif": "is a link to nothing",
        }
        assert str(result).endswith("28 images can be used, 7 files cannot")
        assert result.to_dict()["faults"][0]["path"].startswith(str(folder))

    def test_no_folder(self, tmp_path):
        with pytest.raises(data.DataError, match="nowhere does not exist"):
            data.check(tmp_path / "nowhere")


def test_webp_and_tiff_through_pillow(folder, rng):
    image = pytest.importorskip("PIL.Image")
    picture = rng.integers(0, 255, (30, 40, 3), dtype=np.uint8)
    for name in ("a.webp", "b.tiff"):
        options = {"lossless": True} if name == "a.webp" else {}
        image.fromarray(picture).save(folder / "train" / "ant" / name, **options)
    source = data.load("folder", folder)
    assert data.check(folder).faults == ()
    images = data.Images(size=(30, 40))
    pixels, _ = data.take(source, images, 23, "train", normalize=False)
    for name in ("a.webp", "b.tiff"):
        assert np.array_equal(pixels[[path.name for path in paths(source)].index(name)], picture)
    grey, _ = data.take(source, images.with_channels(1), 23, "train", normalize=False)
    assert grey.shape == (23, 30, 40, 1)


def test_webp_without_pillow(folder, monkeypatch):
    monkeypatch.setattr("bnn_tf.data.images._has_pillow", lambda: False)
    (folder / "train" / "ant" / "x.webp").write_bytes(b"RIFF1234WEBP")
    assert data.load("folder", folder).size("train") == 21
    ((path, fault),) = data.check(folder).faults
    assert Path(path).name == "x.webp"
    assert fault.endswith("; `pip install pillow` lets .webp be read")
    assert data.load("folder", folder).notes == (
        "1 file is passed over (.webp); `pip install pillow` lets .webp be read.",
    )
