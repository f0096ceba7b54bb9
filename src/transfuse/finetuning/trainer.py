"""Extend transformers' Trainer by distillation from averaged teachers (Hinton et al., arXiv:1503.02531)."""

import zlib
from collections.abc import Callable, Iterable, Sequence
from math import ceil
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import PreTrainedModel, Trainer, TrainerCallback, TrainingArguments

from transfuse.base.batch import Batch, answer_count, labels_of
from transfuse.base.budget import cache_bytes
from transfuse.base.distributed import process_group
from transfuse.config.finetune_options import FinetuneOptions
from transfuse.data.image.augment import Images, augment
from transfuse.data.samples import Prepare, Samples
from transfuse.distillation.teacher_weighting import TEACHER_WEIGHTING, ensemble_predictions
from transfuse.network.output_losses import OutputLoss, output_loss
from transfuse.network.outputs import logits


class TrainingDataset(Dataset[int]):
    """Give samples by index, and prepare batches in `collate`. Prepared images are cached if they fit in memory.

    Args:
        preparer: returns the function that prepares samples.
        masks: whether that masks tokens. If so, `preparer` takes `epoch`, which returns the current one.
    """

    def __init__(
        self, samples: Samples, preparer: Callable[..., Prepare], options: FinetuneOptions, masks: bool
    ) -> None:
        self.samples = samples
        self.options = options
        self.epoch = 0
        self.prepare = preparer(epoch=lambda: self.epoch) if masks else preparer()
        self.labels = samples.labels() if samples.label else None
        self.prepared_images: dict[int, dict[str, Tensor]] = {}

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> int:
        return index

    def collate(self, indices: Sequence[int]) -> dict[str, Tensor]:
        """Return the batch of the samples with these indices."""
        if self.samples.image is None:
            batch = dict(self.prepare(self.samples.inputs(indices)))
        else:
            batch = self._images(indices)
            batch["pixel_values"] = self._augment(batch["pixel_values"], indices)
        if self.labels is not None:
            batch["labels"] = self.labels[list(indices)]
        return batch

    def _augment(self, images: Images, indices: Sequence[int]) -> Images:
        """Augment images with a seed that depends only on epoch and batch, so that a resumed run repeats it."""
        seed = zlib.crc32(repr((self.options.seed, self.epoch, list(indices))).encode())
        generator = torch.Generator().manual_seed(seed)
        return augment(images, self.options.augment, generator)

    def _images(self, indices: Sequence[int]) -> dict[str, Tensor]:
        """Return prepared images, and their labels if the preparer makes them, from the cache if they are in it."""
        missing = [index for index in indices if index not in self.prepared_images]
        prepared: dict[int, dict[str, Tensor]] = {}
        if missing:
            batch = self.prepare(self.samples.inputs(missing))
            prepared = {
                index: {name: values[row] for name, values in batch.items()} for row, index in enumerate(missing)
            }
        known = self.prepared_images | prepared
        images = {name: torch.stack([known[index][name] for index in indices]) for name in known[indices[0]]}
        if images["pixel_values"][0].nbytes * len(self) <= cache_bytes("prepared images"):
            self.prepared_images |= prepared
        return images


class DistillationTrainer(Trainer):
    """Minimize the loss of the model's outputs against labels, the mean of the teachers' predictions, or both."""

    def __init__(self, teachers: Sequence[PreTrainedModel], options: FinetuneOptions, **given: Any) -> None:
        super().__init__(**given)
        self.teachers = [teacher.to(self.args.device).eval() for teacher in teachers]
        self.options = options
        self.model_accepts_loss_kwargs = False  # the loss below is a mean over the batch
        self.mean_answers = 1.0  # of the forward passes of a step

    def get_batch_samples(self, *given: Any) -> tuple[list[Any], Any]:
        """Return the batches of the next step, and take note of how many answers a forward pass has."""
        batches, count = super().get_batch_samples(*given)
        self.mean_answers = sum(map(answer_count, batches)) / max(len(batches), 1) or 1.0
        return batches, count

    def compute_loss(
        self, model: nn.Module, inputs: Batch, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Return the mean loss of a batch, and the logits too if `return_outputs` is set.

        It is weighted by the number of answers, so that a step minimizes the mean over all answers of its passes.
        """
        unwrapped = self.accelerator.unwrap_model(model)
        predicted = logits(model, inputs, unwrapped.get_output_embeddings())
        kind = output_loss(unwrapped)
        share = self.options.distill if self.teachers else 0.0
        if not len(predicted):
            return (predicted.sum(), {"logits": predicted}) if return_outputs else predicted.sum()
        loss = predicted.new_zeros(())
        if share < 1:
            smoothing = self.options.label_smoothing
            smoothed = {"label_smoothing": smoothing} if smoothing else {}
            loss = loss + (1 - share) * kind.losses(predicted, labels_of(inputs), **smoothed)
        if share > 0:
            loss = loss + share * self._distillation_loss(predicted, inputs, kind)
        loss = loss * answer_count(inputs) / self.mean_answers
        return (loss, {"logits": predicted}) if return_outputs else loss

    def _distillation_loss(
        self, predicted: Float[Tensor, "sample cls"], inputs: Batch, kind: OutputLoss
    ) -> Float[Tensor, ""]:
        """Return the loss against the weighted mean of the teachers' predictions at the temperature.

        The factor of the squared temperature keeps the size of the gradients (Hinton et al., section 2).
        """
        temperature = self.options.temperature
        weighting = TEACHER_WEIGHTING[self.options.teacher_weighting]
        equal_weights = [1 / len(self.teachers)] * len(self.teachers)
        targets = ensemble_predictions(weighting, self.teachers, equal_weights, inputs, temperature)
        loss: Tensor = temperature**2 * kind.losses(predicted / temperature, targets)
        return loss


class ProgressCallback(TrainerCallback):
    """Show the progress of optimizer steps, and set the epoch of the data set."""

    def __init__(self, steps: Iterable[int], dataset: TrainingDataset) -> None:
        self.steps = iter(steps)
        self.dataset = dataset
        self.steps_shown = 0

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        self.dataset.epoch = int(state.epoch)

    def on_step_end(self, args: Any, state: Any, control: Any, **others: Any) -> None:
        # A resumed run starts in the middle. The iterator is one step ahead, so that it ends with the last step.
        while self.steps_shown <= state.global_step:
            next(self.steps, None)
            self.steps_shown += 1


def optimizer_steps(options: FinetuneOptions, samples: int) -> int:
    """Return the number of optimizer steps. `samples` is the number of samples per epoch, which all processes share."""
    return max(1, ceil(ceil(samples / (options.batch_size * process_group().count)) * options.epochs))


def warmup_steps(options: FinetuneOptions, steps: int) -> int:
    """Return the number of steps for warmup. The last step is none, as the first step of a warmup has a rate of 0."""
    return min(ceil(options.warmup * steps), steps - 1)


def micro_batch_size(options: FinetuneOptions, fitting: int) -> int:
    """Return the largest divisor of the batch size that is at most `fitting`, the samples that fit in memory."""
    return max(
        count
        for count in range(1, options.batch_size + 1)
        if options.batch_size % count == 0 and count <= max(fitting, 1)
    )


def set_micro_batch(args: TrainingArguments, options: FinetuneOptions, fitting: int) -> None:
    """Let gradients accumulate over a batch, in forward passes of at most `fitting` samples, which fit in memory."""
    micro_batch = micro_batch_size(options, fitting)
    args.per_device_train_batch_size = micro_batch
    args.gradient_accumulation_steps = options.batch_size // micro_batch


def training_arguments(
    options: FinetuneOptions, samples: int, checkpoints: Path | None, scratch: Path
) -> TrainingArguments:
    """Return the options as arguments of transformers' Trainer, with batches as a whole (see `set_micro_batch`).

    Args:
        samples: the number of samples per epoch, which determines how often state and loss are saved.
        checkpoints: the folder that the training state is saved to ten times during a run; None: it is not saved.
        scratch: an empty folder for files that the Trainer writes in any case.
    """
    steps = optimizer_steps(options, samples)
    return TrainingArguments(
        output_dir=str(checkpoints or scratch),
        per_device_train_batch_size=options.batch_size,
        num_train_epochs=options.epochs,
        learning_rate=options.learning_rate,
        lr_scheduler_type="constant_with_warmup" if options.decay == "constant" else options.decay,
        warmup_steps=warmup_steps(options, steps),
        weight_decay=options.weight_decay,
        bf16=options.precision == "bfloat16",
        fp16=options.precision == "float16",
        seed=options.seed,
        use_cpu=options.torch_device().type == "cpu",
        save_strategy="steps" if checkpoints else "no",
        save_steps=max(1, steps // 10),
        save_total_limit=1,
        logging_steps=max(1, steps // 50),
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=torch.cuda.is_available(),
    )
