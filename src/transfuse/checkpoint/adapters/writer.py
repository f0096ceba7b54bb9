"""Write the difference of two models as an adapter that PEFT loads onto the first."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import PreTrainedModel

from transfuse.base.lazy import Tensors
from transfuse.checkpoint.adapters.layout import AdapterLayout, adapter_layout, is_transposed, shortened
from transfuse.checkpoint.adapters.low_rank import LowRank, low_rank_difference
from transfuse.checkpoint.reading.adapted_model import PREFIX
from transfuse.checkpoint.reading.adapter_folder import BASE
from transfuse.checkpoint.reading.companions import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from transfuse.checkpoint.writing.output import write_json
from transfuse.errors import ConfigError

EQUAL = 1e-6  # largest relative difference of entries of equal tensors, which were computed in other ways


@dataclass(frozen=True)
class AdapterContent:
    """Say what an adapter holds.

    Attributes:
        rank: the largest rank of its low-rank products.
        layers: the number of linear layers with such products.
        layers_held: the share that these hold of the squared difference of the layers' matrices.
        outputs_held: the share that they hold of the squared difference of the layers' outputs on samples; None
            without samples.
        held: the share that the adapter holds of the squared difference of all tensors.
        copied: the modules that are copied in full.
        copied_bytes: their size.
        left_out: the changed tensors that it does not hold.
    """

    rank: int
    layers: int
    layers_held: float
    outputs_held: float | None
    held: float
    copied: Sequence[str]
    copied_bytes: int
    left_out: Sequence[str]


def write_adapter(
    folder: Path,
    model: PreTrainedModel,
    base: Tensors,
    changed: Tensors,
    rank: int,
    base_name: str | None,
    revision: str | None = None,
    moments: Mapping[str, Tensor] = {},
) -> AdapterContent:
    """Write adapter_config.json and adapter_model.safetensors. Two matrices are in memory at a time, and the adapter.

    Args:
        folder: an existing folder.
        model: a model of the class of both, possibly on the meta device.
        base: the tensors of the base by their names in the model. Some, such as those of a head, may be missing.
        changed: the tensors of the changed model.
        rank: the largest rank of the difference of a layer.
        base_name: the path or the Hub name of the base; None if it has none.
        revision: its revision on the Hub; None for the newest.
        moments: E[x x^T] of the inputs of layers, by name, so that the outputs of these are approximated.

    Raises:
        ConfigError: the rank is below 1, the models have different shapes, or PEFT cannot load such an adapter.
    """
    if rank < 1:
        raise ConfigError(f"adapter-out: a rank of {rank} holds nothing; give 1 or more")
    check_shapes(base, changed)
    squares = {name: _square(name, base, changed) for name in changed}
    different = [name for name, square in squares.items() if square]
    layout = adapter_layout(model, different, [name for name in changed if name not in base])
    products = _products(model, layout.layers, base, changed, squares, rank, moments)
    biased = [layer for layer in products.ranks if f"{layer}.bias" in squares]
    has_biases = any(squares[f"{layer}.bias"] for layer in biased)
    biases = {f"{layer}.base_layer.bias": changed[f"{layer}.bias"] for layer in biased if has_biases}
    copies = {
        f"{name}.{key}": changed[f"{name}.{key}"]
        for name in layout.copied
        for key in model.get_submodule(name).state_dict()
    }
    tensors = products.tensors | biases | copies
    owned = {
        f"{PREFIX}{name}": values.cpu().clone(memory_format=torch.contiguous_format) for name, values in tensors.items()
    }
    save_file(owned, folder / ADAPTER_WEIGHTS, {"format": "pt"})
    origin = {BASE: base_name, "revision": revision}
    write_json(folder / ADAPTER_CONFIG, _settings(model, layout, products.ranks, has_biases) | origin)
    residual = products.residual | {name: squares[name] for name in layout.left_out}
    own = {name for name, _ in (*model.named_parameters(), *model.named_buffers())}  # tied tensors count once
    return AdapterContent(
        max(products.ranks.values()),
        len(products.ranks),
        _share(squares, residual, [f"{layer}.weight" for layer in layout.layers]),
        products.outputs_held,
        _share(squares, residual, [name for name in squares if name in own]),
        layout.copied,
        sum(values.nbytes for values in copies.values()),
        layout.left_out,
    )


@dataclass(frozen=True)
class _Products:
    """The low-rank products of layers.

    Attributes:
        tensors: the factors.
        ranks: the rank of each layer that has a product.
        residual: the squared difference that the products lack, by the name of the matrix.
        outputs_held: the share that they hold of the squared difference of outputs on samples; None without samples.
    """

    tensors: dict[str, Tensor]
    ranks: dict[str, int]
    residual: dict[str, float]
    outputs_held: float | None


def _products(
    model: PreTrainedModel,
    layers: Sequence[str],
    base: Tensors,
    changed: Tensors,
    squares: Mapping[str, float],
    rank: int,
    moments: Mapping[str, Tensor],
) -> _Products:
    """Return the products of the layers that differ; one of zeros if none does, because PEFT requires a layer."""
    tensors: dict[str, Tensor] = {}
    ranks: dict[str, int] = {}
    residual: dict[str, float] = {}
    whole = lacking = 0.0
    different = [layer for layer in layers if squares[f"{layer}.weight"] or squares.get(f"{layer}.bias")]
    for layer in different or layers[:1]:
        product = _difference(model, layer, base, changed, rank, moments.get(layer))
        residual[f"{layer}.weight"] = product.residual
        whole += product.output_square or 0.0
        lacking += product.output_residual or 0.0
        tensors |= _factors(layer, product, changed[f"{layer}.weight"])
        ranks[layer] = max(product.rank, 1)
    return _Products(tensors, ranks, residual, 1 - lacking / whole if whole else None)


def check_shapes(base: Tensors, changed: Tensors) -> None:
    """Raise `ConfigError` unless the tensors of the base have the shapes of those of the changed model."""
    for name, values in changed.items():
        if name in base and base[name].shape != values.shape:
            raise ConfigError(
                f"adapter-out: {name} is {tuple(values.shape)} in the fused model and {tuple(base[name].shape)} in its"
                " base, and an adapter changes no shapes; leave adapter-out out, or give a base of the same shape"
            )


def _square(name: str, base: Tensors, changed: Tensors) -> float:
    """Return the squared norm of the difference of a tensor, or of a tensor that the base lacks; 0 if there is none.

    Differences by rounding are none.
    """
    after = changed[name]
    if name not in base:
        return float(after.double().square().sum()) or 1.0
    before = base[name]
    if not after.is_floating_point():
        return float(not torch.equal(before, after))
    difference = after.double() - before.double()
    largest = float(before.abs().amax()) if before.numel() else 0.0
    return float(difference.square().sum()) if float(difference.abs().amax()) > EQUAL * largest else 0.0


def _difference(
    model: PreTrainedModel, layer: str, base: Tensors, changed: Tensors, rank: int, moments: Tensor | None = None
) -> LowRank:
    """Return the low-rank difference of a layer."""
    matrices = base[f"{layer}.weight"], changed[f"{layer}.weight"]
    if is_transposed(model.get_submodule(layer)):
        matrices = matrices[0].T, matrices[1].T
    return low_rank_difference(*matrices, rank, moments)


def _factors(prefix: str, product: LowRank, like: Tensor) -> dict[str, Tensor]:
    """Return the factors of a layer by PEFT's names, in float32 or better: zeros of rank 1 if it does not differ."""
    dtype = torch.promote_types(like.dtype, torch.float32)
    down, up = product.down, product.up
    if not product.rank:
        down, up = down.new_zeros(1, down.shape[1]), up.new_zeros(up.shape[0], 1)
    return {f"{prefix}.lora_A.weight": down.to(dtype), f"{prefix}.lora_B.weight": up.to(dtype)}


def _settings(model: PreTrainedModel, layout: AdapterLayout, ranks: Mapping[str, int], biases: bool) -> dict[str, Any]:
    """Return the content of adapter_config.json but for the base.

    As lora_alpha is the rank of every layer, the products are not scaled.
    """
    modules = [name for name, _ in model.named_modules(remove_duplicate=False)]
    outside = [name for name in modules if not any(f"{name}.".startswith(f"{copy}.") for copy in layout.copied)]
    largest = max(ranks.values())
    others = {layer: rank for layer, rank in ranks.items() if rank < largest}
    own_class = {"base_model_class": type(model).__name__, "parent_library": type(model).__module__}
    return {
        "peft_type": "LORA",
        "task_type": layout.task,
        "auto_mapping": None if layout.task else own_class,
        "r": largest,
        "lora_alpha": largest,
        "rank_pattern": others,
        "alpha_pattern": others,
        "lora_dropout": 0.0,
        "target_modules": shortened(ranks, outside, "."),
        "modules_to_save": shortened(layout.copied, modules, "") or None,
        "bias": "lora_only" if biases else "none",
        "fan_in_fan_out": any(is_transposed(model.get_submodule(layer)) for layer in ranks),
        "inference_mode": True,
        "init_lora_weights": True,
    } | ({"ensure_weight_tying": True} if layout.tied else {})


def _share(squares: Mapping[str, float], residual: Mapping[str, float], names: Sequence[str]) -> float:
    """Return the share of the squared difference of some tensors that is not residual."""
    total = sum(squares[name] for name in names)
    return 1 - sum(residual.get(name, 0.0) for name in names) / total if total else 1.0
