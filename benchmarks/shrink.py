"""Make a model smaller, beside controls of the same size.

python benchmarks/shrink.py --model MODEL --data cifar10 --name shrink-vit --steps 100 --samples 1000
python benchmarks/shrink.py --model warandpeace-gpt2-192-1 --data warandpeace --name shrink-gpt2 --steps 100 \
  --samples 500 --epochs 8
python benchmarks/shrink.py --model MODEL --data antibody --name shrink-antibody --steps 100 --samples 700
python benchmarks/shrink.py --model all-minilm-l6-v2 --data sst2 --name shrink-sentences --steps 100

MODEL is a folder, or the name of a parent. `shrink` is measured after its layers are fitted, and after training. The
controls: units chosen by the norm of their weights, or at random, then fitted and trained in the same way; a random
start that is trained on the large model in the same way; and the same size trained on the labels alone, by AdamW, with
as many steps, and with `--epochs` also for so many epochs of the whole training split, as large models are. Everything
else is fitted to the same samples of the training split. All are measured on others: the validation split, or the test
split with `--split test`. The antibodies have a test split only. Models of books also continue prompts greedily;
`same_tokens` is the number of tokens until the first one that differs from the large model's. A model of sentence
embeddings (sst2) is measured as `embeddings` says, and has no control that is trained on labels. `seconds` are of the
processor.
"""

import argparse
import copy
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from common import DATA, PARENTS, record, split
from datasets import Dataset, load_dataset
from embeddings import EmbeddingQuality
from subjects import sentences
from texts import BOOKS, passages
from torch import Tensor
from transformers import PreTrainedModel

import transfuse
from transfuse.base.progress import Progress, silent
from transfuse.base.timing import Stopwatch
from transfuse.checkpoint.reading.load import load_model
from transfuse.config.make import make
from transfuse.config.shrink_options import ShrinkOptions
from transfuse.data.processors import model_processor
from transfuse.network.axes import leaves
from transfuse.network.layout import unfused
from transfuse.network.model import network, unfused_tensors
from transfuse.network.sizes import Sizes, sizes_of
from transfuse.shrinking import shrink as shrinking
from transfuse.shrinking import start as starting
from transfuse.shrinking.blocks import all_blocks
from transfuse.shrinking.choose_sizes import choose_sizes
from transfuse.shrinking.depth import choose_blocks
from transfuse.shrinking.learn import ProjectedDistillation
from transfuse.shrinking.maps import Selection
from transfuse.shrinking.observe import Observation
from transfuse.shrinking.possible import possible_sizes
from transfuse.shrinking.projection import Projection
from transfuse.shrinking.samples import read_samples
from transfuse.shrinking.small_model import configurations, fit_layers

DRAWS = 3  # of the hidden letters of each antibody
ANTIBODIES = ("antibody", "antibody-light")  # sequences of heavy and of light chains
SENTENCES = "sst2"
TEXTS = (*BOOKS, *ANTIBODIES, SENTENCES)
LONG_BATCH = 16  # samples of a step in training for long
PROMPTS = 100  # of as many tokens as are then generated
GENERATED = 32

Score = Callable[[Mapping[str, Tensor], Projection, str, int], Tensor]


def weight_norms(tensors: Mapping[str, Tensor], projection: Projection, name: str, units: int) -> Tensor:
    """Return the squared norm of all weights of each unit of a space."""
    total = torch.zeros(units, dtype=torch.float64)
    for tensor, axes in unfused(projection.cut).tensors().items():
        flat = [space for axis in axes for space, _ in leaves(axis)]
        values = tensors[tensor].double().reshape([space.units for space in flat])
        for dim, space in enumerate(flat):
            if space.name == name:
                total += values.square().movedim(dim, 0).reshape(units, -1).sum(1)
    return total


def at_random(tensors: Mapping[str, Tensor], projection: Projection, name: str, units: int) -> Tensor:
    """Return random numbers."""
    return torch.rand(units, generator=torch.Generator().manual_seed(len(name) + units))


def chosen_by(
    score: Score, changed: Mapping[str, int], train: Observation, validation: Observation, progress: Progress
) -> tuple[Projection, dict[str, Tensor]]:
    """Return a projection to the units with the largest scores; nothing is rotated."""
    projection = train.projection
    spaces = {name: space for name, space in projection.cut.spaces().items() if name in changed}
    large = projection.large
    tensors = unfused_tensors(large)
    maps = {}
    for name, units in changed.items():
        scores = score(tensors, projection, name, spaces[name].units)
        maps[name] = Selection(scores.topk(units).indices.sort().values)
    return Projection(large, projection.blocks, projection.ends, projection.cut, projection.small, maps), {}


def trained(small: PreTrainedModel, projection: Projection, batches: Any, options: ShrinkOptions) -> PreTrainedModel:
    """Train a model in place to do what the large one does."""
    ProjectedDistillation(small, projection, batches, options.learning(), options.seed).run("weights")
    return small


def randomly_started(model: PreTrainedModel, seed: int) -> PreTrainedModel:
    """Return an untrained model of the same shape."""
    torch.manual_seed(seed)
    return type(model)(copy.deepcopy(model.config)).eval()


class Subject:
    """A large model with the samples that it is made smaller by, and those that all are measured on."""

    def __init__(self, model: Path, data: str, options: ShrinkOptions, measured: str, limit: int) -> None:
        self.model, self.options, self.limit = str(model), options, limit
        self.draws = DRAWS if data in ANTIBODIES else 1
        self.at_once = 25 if data in TEXTS else 100  # samples of a training step, as in `shrink`
        self.fitted_on, self.measured_on = _samples(data, measured)
        self.loaded = load_model(self.model)
        self.processor = model_processor(self.model, self.loaded, None)
        self.large = network(self.loaded, options.torch_device())
        self.prompts = _prompts(self.measured_on, self.processor) if data in BOOKS else None
        self.embeddings: EmbeddingQuality | None = None
        if data == SENTENCES:
            rows = self.measured_on.select(range(min(limit, len(self.measured_on))))
            self.embeddings = EmbeddingQuality(self.loaded, self.processor, self.fitted_on, rows)
            self.fitted_on = self.fitted_on.select_columns("sentence")
        self.continued = self.generate(self.loaded)
        _, self.batches = read_samples(self.large.model, self.model, self.fitted_on, options, None, silent)

    def measure(self, model: PreTrainedModel) -> dict[str, float]:
        """Return loss and accuracy on samples that nothing was fitted to."""
        if self.embeddings is not None:
            return self.embeddings.measure(model)
        draws = [
            transfuse.evaluate([model], self.measured_on, self.limit, self.processor, seed=seed).models["model 1"]
            for seed in range(self.draws)
        ]
        found = {name: mean(getattr(draw.metrics, name) for draw in draws) for name in ("loss", "accuracy")}
        continued = self.generate(model)
        if continued is not None:
            same = (continued == self.continued).cumprod(1).sum(1)
            found["same_tokens"] = float(same.double().mean())  # of GENERATED, until the first one that differs
        return found

    @torch.no_grad()
    def generate(self, model: PreTrainedModel) -> Tensor | None:
        """Return how a language model continues the prompts, if each token is the one with the highest probability."""
        if self.prompts is None:
            return None
        fixed = {"max_new_tokens": GENERATED, "min_new_tokens": GENERATED, "do_sample": False, "pad_token_id": 0}
        ids = model.generate(self.prompts, attention_mask=torch.ones_like(self.prompts), **fixed)
        return ids[:, self.prompts.shape[1] :]

    def start(self, sizes: Sizes) -> tuple[PreTrainedModel, Projection]:
        """Return the small model before its layers are fitted."""
        train, validation = shrinking.split(self.batches)
        blocks = all_blocks(self.large.model, sizes_of(self.large.model.config).layers)
        if sizes.layers is not None and sizes.layers < blocks.depth:
            blocks = choose_blocks(self.large.model, blocks.stack, sizes.layers, train, silent)
        configs = configurations(self.large.model.config, sizes, blocks)
        return starting.start(self.large, blocks, configs, (train, validation), silent)

    def scratch(self, small: PreTrainedModel, epochs: float | None = None) -> PreTrainedModel:
        """Train an untrained model of this shape on labels, with as many samples in all as the training takes.

        Args:
            epochs: of the whole training split, instead.
        """
        samples, steps = self.options.samples, self.options.steps or 1
        options = {"epochs": epochs} if epochs else {"epochs": steps * self.at_once / samples, "samples": samples}
        untrained, size = randomly_started(small, 1), min(self.at_once, LONG_BATCH) if epochs else self.at_once
        options |= {"batch_size": size, "learning_rate": 1e-3}
        return transfuse.finetune(untrained, self.fitted_on, processor=self.processor, **options).model


def _samples(data: str, measured: str) -> tuple[Dataset, Dataset]:
    """Return training samples, and others to measure on."""
    if data in BOOKS:
        return passages("train", data), passages(measured, data)
    if data == SENTENCES:
        return sentences("train"), sentences(measured)
    if data in ANTIBODIES:
        files = [str(DATA.parent / "real" / f"antibody.{name}.jsonl") for name in ("calibration", "test")]
        both = (load_dataset("json", data_files=file, split="train").select_columns("text") for file in files)
        train, test = (chains.filter(lambda row: _is_heavy(row) == (data == "antibody")) for chains in both)
        return train, test
    return split(data, "train"), split(data, measured)


def _prompts(rows: Dataset, tokenizer: Any) -> Tensor:
    """Return the first tokens of passages."""
    ids = [tokenizer(text)["input_ids"][:GENERATED] for text in rows["text"][:PROMPTS]]
    return torch.tensor([row for row in ids if len(row) == GENERATED])


def _is_heavy(row: dict[str, str]) -> bool:
    """Return whether an antibody's sequence is a heavy chain, by its last letters."""
    return row["text"].endswith("VSS")


def compare(subject: Subject, sizes: Sizes, epochs: float | None) -> list[dict[str, Any]]:
    """Return a row for each way to a model of the given sizes."""
    rows: list[dict[str, Any]] = []

    def add(name: str, made: Callable[[], PreTrainedModel]) -> PreTrainedModel:
        begin = time.process_time()
        model = made()
        seconds = time.process_time() - begin
        rows.append({"name": name, "parameters": model.num_parameters(), "seconds": seconds, **subject.measure(model)})
        print(rows[-1], flush=True)
        return model

    batches = shrinking.split(subject.batches)
    chosen = starting._with_maps
    ways = {"shrink": chosen, "norms": partial(chosen_by, weight_norms), "random units": partial(chosen_by, at_random)}
    first: tuple[PreTrainedModel, Projection] | None = None
    for name, maps in ways.items():
        starting._with_maps = maps  # type: ignore[assignment]
        try:
            small, projection = subject.start(sizes)
        finally:
            starting._with_maps = chosen
        add(f"{name}, fitted", partial(_fitted, small, projection, batches[0]))
        add(f"{name}, trained", partial(trained, small, projection, batches, subject.options))
        first = first or (small, projection)
    assert first is not None
    small, projection = first
    add("random start, trained", lambda: trained(randomly_started(small, 1), projection, batches, subject.options))
    if subject.embeddings is None:
        add("labels alone", lambda: subject.scratch(small))
    if epochs:
        add("labels alone, long", lambda: subject.scratch(small, epochs))
    return rows


def _fitted(small: PreTrainedModel, projection: Projection, batches: Any) -> PreTrainedModel:
    fit_layers(small, projection, batches, silent)
    return small


def main() -> None:
    """Measure all ways at every share of the parameters."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--name", required=True)
    parser.add_argument("--ratios", type=float, nargs="+", default=[0.75, 0.5, 0.25])
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--epochs", type=float, help="of one more control: the small size, trained on labels for long")
    parser.add_argument("--split", default="validation")
    parser.add_argument("--limit", type=int, default=2000)
    args = parser.parse_args()
    model = Path(args.model) if Path(args.model).is_dir() else PARENTS / args.model
    results: dict[str, Any] = {}
    for ratio in args.ratios:
        options = make(ShrinkOptions, {"ratio": ratio, "steps": args.steps, "samples": args.samples})
        watch = Stopwatch()
        subject = Subject(model, args.data, options, args.split, args.limit)
        watch.lap("preparing")
        if not results:
            results["large"] = {"parameters": subject.loaded.num_parameters(), **subject.measure(subject.loaded)}
            print(results["large"], flush=True)
        possible = possible_sizes(str(model), subject.loaded, options)
        sizes, _ = choose_sizes(subject.large, possible, shrinking.split(subject.batches), silent)
        results[str(ratio)] = {"sizes": sizes.given(), "rows": compare(subject, sizes, args.epochs)}
        record(args.name, {"split": args.split, "samples": args.samples, "steps": args.steps, "results": results})


if __name__ == "__main__":
    main()
