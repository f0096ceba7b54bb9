"""Images of any kind, as a model takes them."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas  # type: ignore[import-untyped]
import PIL.ExifTags
import PIL.Image
import pytest
import torch
from datasets import Dataset, Features, Image
from pictures import one_line, picture, processor_of, write_image
from transformers import ViTConfig, ViTMAEConfig

from transfuse.data.image.images import image_preparer, load_processor, with_equal_masks
from transfuse.data.load import load_samples
from transfuse.errors import CheckpointError, DataError


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "1"])
@pytest.mark.parametrize("channels", [1, 3])
def test_images_of_any_mode_are_given_the_channels_of_the_model(mode: str, channels: int) -> None:
    config = ViTConfig(image_size=8, num_channels=channels)
    prepare = image_preparer(processor_of(config), channels)
    pixels = prepare([picture(255, mode), picture(0, mode, size=5)])["pixel_values"]
    assert (pixels.shape, pixels.dtype) == ((2, channels, 8, 8), torch.float32)
    assert (pixels[0] == 1).all()
    assert (pixels[1] == -1).all()


def test_every_model_masks_the_same_patches() -> None:
    config = ViTMAEConfig(image_size=8, patch_size=[2, 4], num_channels=1)
    prepare = with_equal_masks(image_preparer(processor_of(config), 1), config)
    first, second = (prepare([picture(value), picture(0)])["noise"] for value in (255, 7))
    assert first.shape == (2, 8)
    assert torch.equal(first, second)
    assert not torch.equal(first[0], first[1])


def test_sixteen_bits_are_scaled_not_clipped() -> None:
    prepare = image_preparer(processor_of(ViTConfig(image_size=2, num_channels=1)), 1)
    pixels = prepare([PIL.Image.fromarray(np.full((2, 2), 128 * 256, np.uint16))])["pixel_values"]
    torch.testing.assert_close(pixels, torch.full((1, 1, 2, 2), 128 / 255 * 2 - 1))
    with pytest.raises(DataError, match="'F' pixels"):
        prepare([PIL.Image.new("F", (2, 2))])


def test_the_checkpoints_own_processor_is_used(tmp_path: Path, lookups: list[str]) -> None:
    path = tmp_path / "preprocessor_config.json"
    settings = {"image_processor_type": "ViTImageProcessor", "do_resize": False, "image_mean": [0.0] * 3}
    path.write_text(json.dumps({**settings, "image_std": [0.5] * 3}))
    prepare = image_preparer(load_processor(tmp_path), 3)
    assert (prepare([picture(255)])["pixel_values"] == torch.full((1, 3, 4, 4), 2.0)).all()
    with pytest.raises(DataError) as caught:
        prepare([picture(0), picture(0, size=5)])
    assert "4x4, 5x5" in one_line(caught)
    with pytest.raises(DataError, match="cannot prepare L images"):
        image_preparer(load_processor(tmp_path), 1)([picture(0)])
    path.write_text("{broken")
    with pytest.raises(CheckpointError) as unreadable:
        load_processor(tmp_path)
    assert str(tmp_path) in one_line(unreadable)
    assert lookups == []


def test_a_checkpoint_without_an_image_processor_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        load_processor(tmp_path)
    assert f"{tmp_path}: no preprocessor_config.json, so it is unknown" in one_line(caught)


def opened(format: str, **settings: Any) -> PIL.Image.Image:
    """An image of 6 x 4 pixels of noise that was opened from encoded bytes."""
    buffer = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 255, (4, 6, 3)).astype(np.uint8)
    PIL.Image.fromarray(pixels).save(buffer, format, **settings)
    return PIL.Image.open(buffer)


@pytest.mark.parametrize("format", ["JPEG", "WEBP", "PNG"])
def test_images_in_memory_keep_their_pixels(format: str) -> None:
    expected = np.asarray(opened(format, quality=95))
    rows = [{"image": opened(format, quality=95)}]
    for data in ([opened(format, quality=95)], rows, pandas.DataFrame(rows)):
        (found,) = load_samples(data).inputs([0])
        assert np.array_equal(np.asarray(found), expected)


def test_images_in_memory_are_turned_as_those_of_files_are(tmp_path: Path) -> None:
    exif = PIL.Image.Exif()
    exif[PIL.ExifTags.Base.Orientation] = 6  # turned by a quarter
    image = opened("JPEG", exif=exif)
    image.save(tmp_path / "turned.jpg", exif=exif)
    for data in (tmp_path, [opened("JPEG", exif=exif)]):
        assert load_samples(data).inputs([0])[0].size == (4, 6)


def test_a_broken_image_in_memory_is_refused() -> None:
    buffer = io.BytesIO()
    opened("PNG").save(buffer, "PNG")
    with pytest.raises(DataError) as caught:
        load_samples([PIL.Image.open(io.BytesIO(buffer.getvalue()[:-30]))])
    assert "truncated" in one_line(caught)


def test_what_no_preparer_can_do() -> None:
    with pytest.raises(DataError, match="images of 2 channels"):
        image_preparer(None, 2)
    with pytest.raises(DataError, match="makes 3 channels, the model takes 1"):
        image_preparer(lambda images, return_tensors: {"pixel_values": torch.ones(1, 3, 2, 2)}, 1)([picture(0)])


def test_corrupt_image_names_row_and_file(tmp_path: Path) -> None:
    for name in "abcd":
        write_image(tmp_path / f"{name}.png", 1)
    whole = (tmp_path / "c.png").read_bytes()
    (tmp_path / "c.png").write_bytes(whole[: len(whole) // 2])
    samples = load_samples(tmp_path)
    with pytest.raises(DataError) as caught:
        samples.inputs(range(0, 4))
    assert "row 2 " in one_line(caught)
    assert "c.png" in one_line(caught)
    shuffled = samples.take(3, 0)
    assert 2 in shuffled.rows
    with pytest.raises(DataError, match=r"row 2 .*c\.png"):
        shuffled.inputs(range(3))


def test_images_that_are_not_there(tmp_path: Path, lookups: list[str]) -> None:
    elsewhere = Dataset.from_dict({"image": [{"bytes": None, "path": "https://example.org/a.png"}, None]})
    samples = load_samples(elsewhere.cast(Features({"image": Image()})))
    with pytest.raises(DataError, match="not stored with the data"):
        samples.inputs([0])
    with pytest.raises(DataError, match=r"row 1 .*there is none"):
        samples.inputs(range(1, 2))
    (tmp_path / "a.csv").write_text("file_name\nmissing.png\n")
    with pytest.raises(DataError, match=r"row 0 .*missing\.png, which is not there"):
        load_samples(tmp_path).require_images()
    assert lookups == []
