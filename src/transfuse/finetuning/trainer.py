"""transformers' Trainer, with the averaged outputs of teachers in the loss (Hinton et al., 1503.02531)."""

import zlib
from collections.abc import Callable, Iterable, Sequence
from math import ceil
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import Dataset
from transformers import PreTrainedModel, Trainer, TrainerCallback, TrainingArguments

from transfuse.base.batch import Batch, labels_of
from transfuse.base.budget import cache_bytes
from transfuse.data.augment import Images, augment
from transfuse.data.samples import Prepare, Samples
from transfuse.distillation.teacher_weighting import TEACHER_WEIGHTING, ensemble_probabilities
from transfuse.finetuning.schedule import Schedule
from transfuse.network.outputs import logits


class TrainingDataset(Dataset[int]):
    """Samples by index; `collate` prepares them. Images are prepared once, as long as they fit in memory."""

    def __init__(self, samples: Samples, preparer: Callable[[Callable[[], int]], Prepare], schedule: Schedule) -> None:
        self.samples, self.schedule = samples, schedule
        self.prepare = preparer(lambda: self.epoch)
        self.labels = samples.labels() if samples.label else None
        self.epoch = 0
        self.kept: dict[int, Tensor] = {}

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> int:
        return index

    def collate(self, chosen: Sequence[int]) -> dict[str, Tensor]:
        """A batch of these samples."""
        if self.samples.image is None:
            batch = dict(self.prepare(self.samples.inputs(chosen)))
        else:
            batch = {"pixel_values": self._augmented(self._images(chosen), chosen)}
        if self.labels is not None:
            batch["labels"] = self.labels[list(chosen)]
        return batch

    def _augmented(self, images: Images, chosen: Sequence[int]) -> Images:
        """What is done depends on epoch and batch, and on nothing else that a resumed run would have to restore."""
        seed = zlib.crc32(repr((self.schedule.seed, self.epoch, list(chosen))).encode())
        generator = torch.Generator().manual_seed(seed)
        return augment(images, self.schedule.augment, generator)

    def _images(self, chosen: Sequence[int]) -> Tensor:
        new = [index for index in chosen if index not in self.kept]
        fresh = dict(zip(new, self.prepare(self.samples.inputs(new))["pixel_values"], strict=True)) if new else {}
        images = torch.stack([fresh[index] if index in fresh else self.kept[index] for index in chosen])
        if images[0].nbytes * len(self) <= cache_bytes("prepared images"):
            self.kept |= fresh
        return images


class DistillationTrainer(Trainer):
    """Minimises cross-entropy with the labels, with the teachers' mean probabilities, or a mixture."""

    def __init__(self, teachers: Sequence[PreTrainedModel], schedule: Schedule, **options: Any) -> None:
        super().__init__(**options)
        self.teachers = [teacher.to(self.args.device).eval() for teacher in teachers]
        self.schedule = schedule
        self.model_accepts_loss_kwargs = False  # the loss below is a mean over the batch

    def compute_loss(
        self, model: nn.Module, inputs: Batch, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The loss of one batch, and the logits if wanted."""
        found = logits(model, inputs, self.accelerator.unwrap_model(model).get_output_embeddings())
        share = self.schedule.distill if self.teachers else 0.0
        loss = found.new_zeros(())
        if share < 1:
            smoothing = self.schedule.label_smoothing
            loss = loss + (1 - share) * cross_entropy(found, labels_of(inputs), label_smoothing=smoothing)
        if share > 0:
            loss = loss + share * self._distance(found, inputs)
        return (loss, {"logits": found}) if return_outputs else loss

    def _distance(self, found: Float[Tensor, "sample cls"], inputs: Batch) -> Float[Tensor, ""]:
        """Cross-entropy with the teachers' mean, both at the temperature; scaled so that gradients keep their size."""
        temperature = self.schedule.temperature
        weighting = TEACHER_WEIGHTING[self.schedule.teacher_weighting]
        even = [1 / len(self.teachers)] * len(self.teachers)
        target = ensemble_probabilities(weighting, self.teachers, even, inputs, temperature)
        return temperature**2 * cross_entropy(found / temperature, target)


class ProgressCallback(TrainerCallback):
    """Shows every optimiser step, and tells the feed which epoch it is."""

    def __init__(self, steps: Iterable[int], feed: TrainingDataset) -> None:
        self.steps, self.feed = iter(steps), feed
        self.shown = 0

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        self.feed.epoch = int(state.epoch)

    def on_step_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        while self.shown <= state.global_step:  # a resumed run starts in the middle; one ahead, so that the bar ends
            next(self.steps, None)
            self.shown += 1


def optimizer_steps(schedule: Schedule, samples: int) -> int:
    """How many there will be in one process, for so many samples in an epoch."""
    return max(1, ceil(ceil(samples / schedule.batch_size) * schedule.epochs))


def micro_batch_size(schedule: Schedule, fitting: int) -> int:
    """Samples of a batch that are seen together: the largest part of it, of equal parts, for which there is room."""
    return max(
        count
        for count in range(1, schedule.batch_size + 1)
        if schedule.batch_size % count == 0 and count <= max(fitting, 1)
    )


def training_arguments(
    schedule: Schedule, samples: int, together: int, checkpoints: Path | None, scratch: Path
) -> TrainingArguments:
    """The schedule in transformers' terms.

    Args:
        samples: of one epoch, for how often the state is saved and the loss is kept.
        together: samples that are seen together; gradients of a whole batch add up before a step.
        checkpoints: where a run that may be resumed leaves its state ten times; None: nowhere.
        scratch: an empty folder, for what the Trainer insists on.
    """
    steps = optimizer_steps(schedule, samples)
    return TrainingArguments(
        output_dir=str(checkpoints or scratch),
        per_device_train_batch_size=together,
        gradient_accumulation_steps=schedule.batch_size // together,
        num_train_epochs=schedule.epochs,
        learning_rate=schedule.learning_rate,
        lr_scheduler_type="constant_with_warmup" if schedule.decay == "constant" else schedule.decay,
        warmup_steps=schedule.warmup,
        weight_decay=schedule.weight_decay,
        bf16=schedule.precision == "bfloat16",
        fp16=schedule.precision == "float16",
        seed=schedule.seed,
        use_cpu=schedule.torch_device().type == "cpu",
        save_strategy="steps" if checkpoints else "no",
        save_steps=max(1, steps // 10),
        save_total_limit=1,
        logging_steps=max(1, steps // 50),
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=torch.cuda.is_available(),
    )
