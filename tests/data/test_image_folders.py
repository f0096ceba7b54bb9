"""Folders of images: classes, splits, links and files that are not read."""

from pathlib import Path

import PIL.Image
import pytest
from pictures import one_line, values, write_image

from transfuse.data.load import load_samples
from transfuse.errors import DataError


def write(folder: Path, *names: str) -> Path:
    """Write one image into each subfolder, and return the folder."""
    for index, name in enumerate(names):
        write_image(folder / name / "x.png", 10 * index)
    return folder


@pytest.mark.parametrize(
    "names",
    [
        ("train/cat", "train/dog", "test/cat", "test/dog", "extra/cat", "extra/dog"),
        ("train/cat", "train/dog", "holdout/cat", "holdout/dog"),
        ("train_v2/cat", "train_v2/dog", "holdout/cat", "holdout/dog"),
        ("train/cat", "train/dog", "unlabeled"),
        ("train", "val", "images"),
        ("train2017", "val2017", "images"),
    ],
)
def test_a_folder_that_is_no_split_among_splits_is_refused(names: tuple[str, ...], tmp_path: Path) -> None:
    other = next(top for name in names if (top := name.split("/")[0])[0] not in "tv")
    with pytest.raises(DataError) as caught:
        load_samples(write(tmp_path / "data", *names))
    message = one_line(caught)
    assert "data: some folders name a split ('t" in message
    assert f" and {other} does not; give the folder to read, such as {tmp_path / 'data' / 'train'}" in message


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("train", "test"),
        ("training", "testing"),
        ("train2017", "val2017"),
        ("train_images", "test_images"),
        ("images-train", "images-valid"),
        ("trainset", "testset"),
    ],
)
def test_names_of_splits(train: str, test: str, tmp_path: Path) -> None:
    flat = write(tmp_path / "flat", train, test)
    assert (values(load_samples(flat)), values(load_samples(flat, "train"))) == ([10], [0])
    assert load_samples(flat).label is None
    deep = write(tmp_path / "deep", f"{train}_v2/cat", f"{train}_v2/dog", f"{test}_v2/dog")
    assert (values(load_samples(deep)), values(load_samples(deep, "train"))) == ([20], [0, 10])
    assert load_samples(deep).labels().tolist() == [1]


def test_classes_whose_names_begin_like_splits(tmp_path: Path) -> None:
    samples = load_samples(write(tmp_path / "like", "test_tube", "train_station"))
    assert (samples.names, samples.split) == (("test_tube", "train_station"), None)
    assert samples.notes == (f"{samples.name}: 'test_tube', 'train_station' are read as classes, not splits",)
    samples = load_samples(write(tmp_path / "same", "bus", "train"))
    assert (samples.names, samples.notes) == (
        ("bus", "train"),
        (f"{samples.name}: 'train' is read as a class, not a split",),
    )
    assert load_samples(write(tmp_path / "other", "beaker", "test_tube")).notes == ()


def test_a_split_without_classes_beside_one_with_classes(tmp_path: Path) -> None:
    write(tmp_path, "train/cat", "train/dog", "test")
    train = load_samples(tmp_path, "train")
    assert (train.names, train.labels().tolist()) == (("cat", "dog"), [0, 1])
    assert load_samples(tmp_path).label is None


def test_a_folder_that_is_a_split_itself(tmp_path: Path) -> None:
    write(tmp_path, "train/cat", "train/dog")
    samples = load_samples(tmp_path / "train", "train")
    assert (samples.split, samples.names) == ("train", ("cat", "dog"))
    with pytest.raises(DataError, match="no split 'test'; it has train"):
        load_samples(tmp_path / "train", "test")


def test_a_table_that_is_a_split_itself(tmp_path: Path) -> None:
    for name in ("trainset", "testset"):
        (tmp_path / f"{name}.csv").write_text(f"text\n{name}\n")
    assert load_samples(tmp_path).inputs([0]) == ["testset"]
    assert load_samples(tmp_path, "train").inputs([0]) == ["trainset"]
    for wanted in ("train", "training"):
        samples = load_samples(tmp_path / "trainset.csv", wanted)
        assert (samples.split, samples.name) == ("train", str(tmp_path / "trainset.csv"))
    with pytest.raises(DataError, match="no split 'dev'; it has train"):
        load_samples(tmp_path / "trainset.csv", "dev")


def test_links_to_folders_are_followed(tmp_path: Path) -> None:
    write(tmp_path, "elsewhere/owl", "data/cat")
    (tmp_path / "data" / "owl").symlink_to(tmp_path / "elsewhere" / "owl")
    samples = load_samples(tmp_path / "data")
    assert (samples.names, values(samples)) == (("cat", "owl"), [10, 0])


def test_links_have_an_end(tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    (tmp_path / "more").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("one\n")
    (tmp_path / "more" / "b.txt").write_text("two\n")
    (tmp_path / "texts" / "above").symlink_to(tmp_path)
    (tmp_path / "texts" / "more").symlink_to(tmp_path / "more")
    (tmp_path / "more" / "texts").symlink_to(tmp_path / "texts")
    samples = load_samples(tmp_path / "texts")
    assert samples.inputs(range(len(samples))) == ["one", "two"]


@pytest.mark.parametrize("suffix", ["jfif", "jpe", "jp2", "pbm"])
def test_all_images_that_pillow_reads_are_read(suffix: str, tmp_path: Path) -> None:
    write(tmp_path, "cat", "dog")
    image = PIL.Image.new("L", (4, 4), 255)
    kind = {"jp2": "JPEG2000", "pbm": "PPM"}.get(suffix, "JPEG")
    image.convert("1" if suffix == "pbm" else "L").save(tmp_path / "cat" / f"y.{suffix}", kind)
    samples = load_samples(tmp_path)
    assert (values(samples), samples.notes) == ([0, 255, 10], ())


def test_a_line_says_which_files_are_left_out(tmp_path: Path) -> None:
    write(tmp_path, "cat", "dog")
    for name in ("a.heic", "b.HEIC", "c.svg", "d.txt"):
        (tmp_path / "cat" / name).write_bytes(b"anything")
    (tmp_path / "README.md").write_text("not data")
    samples = load_samples(tmp_path)
    line = "3 files are left out, of kinds that are not read as images (2 .heic, 1 .svg)"
    assert samples.notes == (f"{samples.name}: {line}",)


@pytest.mark.parametrize("above", ["archive", "archive/images"])
def test_splits_in_the_only_folder(above: str, tmp_path: Path) -> None:
    deep = write(tmp_path / "deep", *(f"{above}/{name}" for name in ("train/cat", "train/dog", "test/cat", "test/dog")))
    assert (values(load_samples(deep)), load_samples(deep).split) == ([20, 30], "test")
    assert (values(load_samples(deep, "train")), load_samples(deep).names) == ([0, 10], ("cat", "dog"))
    flat = write(tmp_path / "flat", f"{above}/train", f"{above}/val")
    assert (values(load_samples(flat)), load_samples(flat).label) == ([10], None)
    classes = load_samples(write(tmp_path / "classes", f"{above}/cat", f"{above}/dog"))
    assert (classes.names, classes.split) == (("cat", "dog"), None)


def test_splits_below_classes_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "data", "cat/train", "cat/test", "dog/train", "dog/test")
    with pytest.raises(DataError) as caught:
        load_samples(tmp_path / "data")
    assert "data: several folders are divided into splits ('cat', 'dog'); give one of them" in one_line(caught)
    assert values(load_samples(tmp_path / "data" / "cat", "train")) == [0]
    assert load_samples(write(tmp_path / "vehicles", "road/bus", "road/train")).names == ("bus", "train")
