import os
import shutil
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
    assert (source.num_classes, source.image_shape) == (3, None)
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
    with pytest.raises(data.DataError, match=r"Line 10 of .*val_annotations.txt.*'dog_0"):
        data.load("tiny_imagenet", tiny_imagenet)


def test_missing_data_dir(tmp_path):
    with pytest.raises(data.DataError, match=r"nowhere \(--data-dir\) does not exist"):
        data.load("folder", tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["folder", "tiny_imagenet"])
def test_no_data_dir(name):
    with pytest.raises(data.DataError, match=rf"{name} is read from an image folder .* no --data-dir"):
        data.load(name)


@pytest.mark.parametrize("name", ["folder", "tiny_imagenet"])
def test_wrong_layout(tmp_path, name):
    (tmp_path / "images").mkdir()
    with pytest.raises(data.DataError, match=r"image folder.*train/<class>/\*"):
        data.load(name, tmp_path)


def test_no_held_out_images(folder):
    shutil.rmtree(folder / "val")
    with pytest.raises(data.DataError, match=r"is not an image folder: expected .*val/<class>/\*"):
        data.load("folder", folder)


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


@pytest.mark.parametrize("how", ["cut", "junk", "empty", "gone"])
def test_a_corrupt_image_is_named(folder, how):
    source = data.load("folder", folder)
    path = folder / "train" / "bee" / "3.JPEG"
    spoil(path, how)
    with pytest.raises(data.DataError, match=rf"^Cannot read or decode the image {path}\.$"):
        data.take(source, data.Images(), 21, "train")


def test_a_corrupt_image_is_named_in_the_middle_of_training(folder):
    source = data.load("folder", folder)
    batches = data.training_batches(
        source, data.Images((data.RandomResizedCrop(), data.Flip()), size=16), 4, epochs=3
    )
    path = folder / "train" / "bee" / "3.JPEG"
    spoil(path, "cut")
    with (
        pytest.raises(data.DataError, match=rf"^Cannot read or decode the image {path}\.$"),
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
