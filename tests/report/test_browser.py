"""The page in a browser: both themes, a phone's width, nothing fetched. Asked for with `-m browser`."""

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from transfuse.base.progress import silent
from transfuse.cli.jobs.report import build_report
from transfuse.cli.jobs.report_files import write_report
from transfuse.evaluation.samples import measured_samples
from transfuse.fusion.fuse import merge
from transfuse.fusion.match import match

pytestmark = pytest.mark.browser
LIGHT, DARK = 1, 0  # of Blink's preferredColorScheme
MEASURE = """<script>addEventListener("load", () => {
  const wide = [...document.querySelectorAll("main *")].filter(
    each => !each.closest(".scroll, pre") && each.getBoundingClientRect().right > innerWidth + 1);
  document.title = "MEASURED " + JSON.stringify([document.documentElement.scrollWidth, innerWidth,
    wide.map(each => each.tagName), performance.getEntriesByType("resource").length]);
})</script>"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of two tiny ViTs, measured on random images."""
    import torch
    from datasets import Dataset, Features
    from datasets import Image as Pixels
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessorPil

    root = tmp_path_factory.mktemp("page")
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    for seed in (1, 2):
        torch.manual_seed(seed)
        config = ViTConfig(**sizes, image_size=8, patch_size=4, num_channels=1, num_labels=2)
        ViTForImageClassification(config).save_pretrained(root / str(seed))
        size = {"height": 8, "width": 8}
        ViTImageProcessorPil(size=size, image_mean=[0.5], image_std=[0.5]).save_pretrained(root / str(seed))
    random = np.random.default_rng(0)
    images = [Image.fromarray(random.integers(0, 255, (8, 8)).astype(np.uint8)) for _ in range(12)]
    data = Dataset.from_dict({"image": images, "label": [0, 1] * 6}, Features({"image": Pixels(), "label": _classes()}))
    matched = match([root / "1", root / "2"], data)
    fusion = merge(matched)
    samples = measured_samples(data, matched.options, "ViTForImageClassification", matched.anchor.config)
    record = fusion.record | {"seconds": 1.0, "peak_bytes": 10**9}
    report = build_report(matched, fusion.model, record, "fused", samples, silent)
    write_report(root, report.texts)
    return root


def _classes():
    from datasets import ClassLabel

    return ClassLabel(names=["dark", "light"])


def chromium(*arguments: str) -> str:
    """Standard output of a headless browser. Skips where there is none."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("needs chromium")
    flags = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars")
    return subprocess.run([found, *flags, *arguments], capture_output=True, text=True, timeout=120, check=True).stdout


@pytest.mark.parametrize("width", [500, 1200])
def test_nothing_runs_over_and_nothing_is_fetched(folder: Path, width: int) -> None:
    page = folder / f"measured-{width}.html"
    page.write_text((folder / "report.html").read_text().replace("</body>", MEASURE + "</body>"))
    shown = chromium(f"--window-size={width},1000", "--dump-dom", page.as_uri())
    found = re.search(r"<title>MEASURED \[(\d+),(\d+),(\[.*?\]),(\d+)\]", shown)
    assert found, shown[:500]
    assert int(found[1]) <= int(found[2])
    assert (found[3], found[4]) == ("[]", "0")


def test_both_themes(folder: Path) -> None:
    """Dark ink on light paper, or the other way round; pictures take part."""
    shades = {}
    for theme in (LIGHT, DARK):
        target = folder / f"{theme}.png"
        page = (folder / "report.html").as_uri()
        chromium(
            f"--blink-settings=preferredColorScheme={theme}", "--window-size=800,4000", f"--screenshot={target}", page
        )
        shades[theme] = np.asarray(Image.open(target).convert("L")).astype(float)
    assert np.median(shades[LIGHT]) > 240
    assert np.median(shades[DARK]) < 40
    assert shades[LIGHT].min() < 60
    assert shades[DARK].max() > 200
    lower = slice(1800, None)  # where the pictures are: no white sheet in the dark
    assert (shades[DARK][lower] > 240).mean() < 0.02
