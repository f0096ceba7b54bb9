"""A pair of trained parents with their calibration and validation data, to be fused by any method."""

from collections.abc import Callable, Mapping

import torch
from common import PARENTS, split
from torch import Tensor
from transformers import ViTForImageClassification, ViTImageProcessorPil

from transfuse.alignment.interface import Alignment
from transfuse.data.image.images import image_preparer
from transfuse.data.load import load_samples
from transfuse.evaluation.evaluate import Metrics, evaluate
from transfuse.merging.mean import mean
from transfuse.network.model import Network, network, with_tensors

Batches = list[dict[str, Tensor]]


class Pair:
    """Two parents and their data."""

    def __init__(self, dataset: str, seeds: list[str]) -> None:
        folders = [PARENTS / f"{dataset}-vit-128-{seed}" for seed in seeds]
        models = [ViTForImageClassification.from_pretrained(folder).eval() for folder in folders]
        self.anchor, self.source = (network(model, torch.device("cpu")) for model in models)
        self.prepare = image_preparer(ViTImageProcessorPil.from_pretrained(folders[0]), models[0].config.num_channels)
        self.calibration = load_samples(split(dataset, "train"))
        self.validation = list(load_samples(split(dataset, "validation")).batches(self.prepare, 500))

    def batches(self, images: int) -> Batches:
        """Return the given number of calibration images, always the same."""
        return list(self.calibration.take(images, 0).batches(self.prepare, 100)) if images else []

    def measure(self, tensors: Mapping[str, Tensor]) -> Metrics:
        """Return the metrics of a model on the validation split."""
        return evaluate(with_tensors(self.anchor.model, tensors), self.validation)

    def fused(self, align: Callable[[Network, Network], Alignment]) -> tuple[Metrics, Alignment]:
        """Return the metrics of the mean of the anchor and the aligned source, and the alignment."""
        aligned = align(self.anchor, self.source)
        return self.measure(mean([aligned.anchor, aligned.carried], [0.5, 0.5])), aligned
