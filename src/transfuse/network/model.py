"""Between transformers' models and networks of named tensors."""

import copy
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import torch
from accelerate import init_empty_weights
from accelerate.hooks import attach_align_device_hook
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from transfuse.base.batch import IGNORED_LABEL, Batch, cast, without_labels
from transfuse.base.lazy import Materialize, in_memory
from transfuse.errors import SpecError
from transfuse.network.families import declare
from transfuse.network.layout import join_fused, split_fused, stored_names, unfused
from transfuse.network.spec import Spec

# What a model answers with, by what it is: a classifier, a reader, two towers, one with a projection, a bare model.
ANSWERS = (
    ("logits",),
    ("start_logits", "end_logits"),
    ("logits_per_image",),
    ("image_embeds",),
    ("text_embeds",),
    ("last_hidden_state", "pooler_output"),
)
SCORES = tuple(name for names in ANSWERS[:3] for name in names)  # those that do not depend on the stream's basis


@dataclass(frozen=True)
class Network:
    """A model, its declaration and its tensors, both opened, in the precision of the computation.

    Attributes:
        model: without data where the tensors are read as they are needed.
        products: the precision that products of its weights are taken in: about twice that in which they are stored.
        hold: what to do with tensors that are made of these and used again.
        name: what to call it in messages.
        stored: the precision of its files.
    """

    model: PreTrainedModel
    spec: Spec
    tensors: Mapping[str, Tensor]
    products: torch.dtype = torch.float64
    hold: Materialize = in_memory
    name: str = "a model"
    stored: torch.dtype = torch.float32

    @property
    def streamed(self) -> bool:
        """Whether tensors stay in their files until they are needed."""
        return self.hold is not in_memory

    def holding(self, tensors: Mapping[str, Tensor]) -> PreTrainedModel:
        """Return a model of this architecture with other weights, given opened: a copy, or made as it runs."""
        return on_demand(self.model, tensors) if self.streamed else with_tensors(self.model, tensors)


def declaration(model: nn.Module) -> Spec:
    """The declaration of a model, as its tensors are stored. Raises `SpecError` where there is none."""
    assert isinstance(model.config, PretrainedConfig)
    return declare(model.config, type(model).__name__)


def checked_declaration(model: PreTrainedModel) -> Spec:
    """The same, of tensors found to fit it. Raises `SpecError` for no declaration, or tensors that do not fit it."""
    spec = declaration(model)
    spec.validate({name: values.shape for name, values in model.state_dict().items()})
    return spec


def network(model: PreTrainedModel, device: torch.device, name: str = "a model") -> Network:
    """A model ready for alignment: declared, checked, its tensors in float32 or better.

    Raises:
        SpecError: no declaration for its class, or tensors that do not fit it.
    """
    dtype = computed_in(model.dtype)
    as_it_is = model.dtype == dtype and model.device == device and not model.training
    precise = model if as_it_is else in_precision(copy.deepcopy(model), dtype).to(device).eval()
    spec = checked_declaration(model)
    tensors = {name: values.detach() for name, values in precise.state_dict().items()}
    given = dict(split_fused(spec, tensors))
    return Network(precise, unfused(spec), given, multiplied_in(model.dtype), name=name, stored=model.dtype)


def in_precision(model: PreTrainedModel, dtype: torch.dtype) -> PreTrainedModel:
    """Return the model itself in another precision, with the constants of its class (a scale of embeddings, rotary
    frequencies) as precise: those that were rounded when it was loaded are made anew."""
    if model.dtype == dtype:
        return model
    model.to(dtype)
    stored = model.state_dict().keys()
    with init_empty_weights(include_buffers=False):
        fresh = type(model)(copy.deepcopy(model.config))
    for name, values in fresh.named_buffers():
        if name not in stored:
            module, _, last = name.rpartition(".")
            model.get_submodule(module).register_buffer(last, values.to(model.device), persistent=False)
    return model


def computed_in(stored: torch.dtype) -> torch.dtype:
    """The precision in which weights are carried and merged."""
    return torch.promote_types(stored, torch.float32)


def multiplied_in(stored: torch.dtype) -> torch.dtype:
    """The precision of products of weights: a rotation follows directions that hardly vary, too."""
    return torch.float32 if torch.finfo(stored).bits < 32 else torch.float64


def stored_in(dtype: torch.dtype, model: PreTrainedModel) -> PreTrainedModel:
    """The same model, its weights in `dtype`; what it computes beside them (rotary frequencies) stays precise."""
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)
    model.config.dtype = dtype
    return model


def with_tensors(model: PreTrainedModel, tensors: Mapping[str, Tensor]) -> PreTrainedModel:
    """A copy of the model that holds other weights, given opened; they are made one at a time."""
    twin = copy.deepcopy(model)
    places, given = twin.state_dict(), join_fused(declaration(model), tensors)
    for name, place in places.items():
        values = given[name].detach()
        assert values.shape == place.shape, name  # copying would stretch a smaller one
        place.copy_(values)
    return twin.eval()


def sharing_tensors(model: PreTrainedModel, tensors: Mapping[str, Tensor]) -> PreTrainedModel:
    """A model that holds these very tensors, given opened: to be looked at, not changed."""
    given, memo = join_fused(declaration(model), tensors), {}
    for name, parameter in model.named_parameters():
        values = given[name].detach()
        assert values.shape == parameter.shape, name
        memo[id(parameter)] = nn.Parameter(values.to(parameter), requires_grad=False)
    return copy.deepcopy(model, memo).eval()


def on_demand(model: PreTrainedModel, tensors: Mapping[str, Tensor]) -> PreTrainedModel:
    """Return a model whose modules take their weights, given opened, as they run, and drop them after.

    One module's weights are in memory at a time: a model larger than memory can be asked a few questions.
    """
    with init_empty_weights(include_buffers=False):
        twin = type(model)(copy.deepcopy(model.config)).to(computed_in(model.dtype)).eval()
    given = join_fused(declaration(model), tensors)
    device = given[next(name for name, values in twin.named_parameters() if values.ndim == 1)].device
    attach_align_device_hook(twin, execution_device=device, offload=True, weights_map=given)
    return twin


def with_tied(model: PreTrainedModel, names: Collection[str]) -> set[str]:
    """These opened tensors and those tied to them: the same parameter under another name."""
    stored = stored_names(declaration(model))
    parameters = dict(model.named_parameters(remove_duplicate=False))
    taken = {id(parameters[stored[name]]): stored[name] for name in names}
    tied = {name for name, where in stored.items() if taken.get(id(parameters.get(where)), where) != where}
    return {*names, *tied}


def logits(model: nn.Module, batch: Batch, head: nn.Module | None) -> Float[Tensor, "sample cls"]:
    """What a model says of every sample; of a language model, of the tokens that are asked for alone.

    Args:
        model: may be wrapped; `batch` is on its device.
        head: its output embedding, which is then spared the tokens that nobody asks for; None: it has none.

    Raises:
        SpecError: it says nothing of the kind, as it has no head.
    """
    labels = batch.get("labels")
    asked = labels != IGNORED_LABEL if labels is not None and labels.ndim == 2 else None
    spare = head is not None and asked is not None
    hook = head.register_forward_pre_hook(lambda module, inputs: (inputs[0][asked],)) if head and spare else None
    try:
        found = model(**without_labels(batch))
    finally:
        if hook:
            hook.remove()
    scores = [found[name] for name in SCORES if name in found]
    if not scores:
        raise SpecError(f"{type(model).__name__} has no head, so it says nothing that could be compared or measured")
    return torch.cat([each if each.ndim == 2 else each.flatten(0, 1) for each in scores]).float()


@torch.no_grad()
def has_scores(model: PreTrainedModel) -> bool:
    """Whether a model has a head that scores classes, words, places or partners."""
    inputs = cast(example_inputs(model.config), model.dtype)
    found = model(**{name: values.to(model.device) for name, values in inputs.items()})
    return any(name in found for name in SCORES)


@torch.no_grad()
def predict(model: PreTrainedModel, batch: Batch) -> Float[Tensor, "sample cls"]:
    """The logits of a batch from anywhere, on the model's own device."""
    there = {name: values.to(model.device) for name, values in batch.items()}
    return logits(model, there, model.get_output_embeddings())


@torch.no_grad()
def model_output(model: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
    """What a model answers, flat."""
    found = model(**inputs)
    names = next(names for names in ANSWERS if names[0] in found)
    return torch.cat([found[name].flatten() for name in names if found.get(name) is not None])


def example_inputs(config: PretrainedConfig, seed: int = 0) -> dict[str, Tensor]:
    """A small random batch of what a model with this configuration takes.

    `pixel_values` [2, channel, height, width], `input_ids` [2, token] without padding, or both; of an encoder and
    decoder, `decoder_input_ids` too.
    """
    generator = torch.Generator().manual_seed(seed)
    if hasattr(config, "vision_config") and hasattr(config, "text_config"):
        return _pixels(config.vision_config, generator) | _words(config.text_config, generator)
    if hasattr(config, "image_size"):  # a BEiT has a vocabulary besides
        return _pixels(config, generator)
    words = _words(config, generator)
    if config.is_encoder_decoder:
        words["decoder_input_ids"] = _words(config, generator)["input_ids"]
    return words


def _words(config: PretrainedConfig, generator: torch.Generator) -> dict[str, Tensor]:
    """No padding among them; a text ends where it ends. Without a padding token, one text alone."""
    length = min(12, getattr(config, "max_position_embeddings", None) or 12)
    named = [getattr(config, f"{name}_token_id", None) for name in ("pad", "bos", "eos")]
    special = {number for each in named for number in (each if isinstance(each, list) else [each])}
    words = torch.tensor([word for word in range(config.vocab_size) if word not in special] or [0])
    texts = 1 if named[0] is None else 2
    ids = words[torch.randint(len(words), (texts, length), generator=generator)]
    ends = [end for end in (named[2] if isinstance(named[2], list) else [named[2]]) if end is not None]
    if ends and ends[0] < config.vocab_size:
        ids[:, -1] = ends[0]
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def _pixels(config: PretrainedConfig, generator: torch.Generator) -> dict[str, Tensor]:
    size = config.image_size
    height, width = (size, size) if isinstance(size, int) else size
    return {"pixel_values": torch.randn(2, config.num_channels, height, width, generator=generator)}
