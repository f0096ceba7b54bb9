"""A layer of experts: where it stands in a model, its weights unit by unit, and what it computes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.func import functional_call
from transformers import PreTrainedModel

from transfuse.activations.hook_points import HookPoint
from transfuse.errors import SpecError
from transfuse.merging.fitting.layer_groups import joined_stream
from transfuse.network.operations import Linear
from transfuse.network.spec import Spec

CHUNK = 2048  # rows whose outputs of all experts are in memory


@dataclass(frozen=True)
class ExpertLayer:
    """Where a layer of experts stands in a model.

    Attributes:
        router: the linear map whose outputs choose among the experts.
        experts: the name of the module with the experts' weights.
        count: the number of experts.
        stream: points whose sum is the stream that the output is added to.
        factor: what the output is multiplied by.
    """

    router: Linear
    experts: str
    count: int
    stream: tuple[HookPoint, ...]
    factor: float

    @property
    def inputs(self) -> HookPoint:
        """Where the input of the router and of the experts is observed."""
        return HookPoint(self.router.name, "input", self.router.reads[0])

    @property
    def outputs(self) -> HookPoint:
        """Where the sum of the experts' outputs is observed."""
        return HookPoint(self.experts, "output", self.router.reads[0])


def expert_layers(spec: Spec) -> list[ExpertLayer]:
    """Return the layers of experts in the order of the pass."""
    layers = []
    for router in spec.linears():
        stacked = [op for op in spec.linears() if op.stacked is not None and op.stacked == router.writes]
        if not stacked:
            continue
        down = stacked[-1]
        experts = down.name if down.weight else down.name.rpartition(".")[0]
        assert down.stacked is not None
        layers.append(ExpertLayer(router, experts, down.stacked.units, *joined_stream(spec, down)))
    return layers


def check_experts(model: PreTrainedModel, spec: Spec, name: str) -> None:
    """Raise `SpecError` unless a model has experts, stored in the way of transformers.

    Args:
        model: its tensors may be empty.
        name: the model's name in the message.
    """
    layers = expert_layers(spec)
    flags = ("has_gate", "has_bias", "is_transposed", "is_concatenated", "gate_up_proj", "down_proj")
    modules = [model.get_submodule(layer.experts) for layer in layers]
    if not layers or not all(hasattr(module, flag) for module in modules for flag in flags):
        raise SpecError(f"{name}: {type(model).__name__} has no experts that shrink knows; leave out experts")


@dataclass(frozen=True, eq=False)
class Expert:
    """The weights of one expert, unit by unit.

    Attributes:
        up: what each hidden unit reads, by its two branches.
        up_bias: the biases of these; None: there are none.
        down: what each hidden unit writes.
        bias: what is added to the output; None: nothing.
    """

    up: Float[Tensor, "unit branch inputs"]
    up_bias: Float[Tensor, "unit branch"] | None
    down: Float[Tensor, "unit outputs"]
    bias: Float[Tensor, " outputs"] | None

    def units(self, index: Int[Tensor, " chosen"]) -> "Expert":
        """Return an expert with some of the units."""
        bias = None if self.up_bias is None else self.up_bias[index]
        return Expert(self.up[index], bias, self.down[index], self.bias)

    def writing(self, down: Float[Tensor, "unit outputs"], bias: Float[Tensor, " outputs"] | None) -> "Expert":
        """Return an expert with the same hidden units that writes something else."""
        return replace(self, down=down.to(self.down), bias=None if bias is None else bias.to(self.down))


def side_by_side(experts: Sequence[Expert]) -> Expert:
    """Return an expert with the hidden units of several; its bias is that of the first."""
    biases = [expert.up_bias for expert in experts if expert.up_bias is not None]
    up, down = torch.cat([expert.up for expert in experts]), torch.cat([expert.down for expert in experts])
    return Expert(up, torch.cat(biases) if biases else None, down, experts[0].bias)


@dataclass(frozen=True, eq=False)
class ExpertModules:
    """The modules of a layer of experts in a model.

    Attributes:
        router: the module that chooses among the experts.
        experts: the module with the experts' weights, which transformers gives flags of how they are stored.
    """

    router: nn.Module
    experts: Any

    @classmethod
    def of(cls, model: PreTrainedModel, layer: ExpertLayer) -> "ExpertModules":
        """Return the modules of a layer."""
        return cls(model.get_submodule(layer.router.name), model.get_submodule(layer.experts))

    def routing(self) -> dict[str, Tensor]:
        """Return the weights of the router, one row for each expert."""
        return {name: values.detach() for name, values in self.router.named_parameters()}

    def route(
        self, routing: dict[str, Tensor], x: Float[Tensor, "row inputs"]
    ) -> tuple[Float[Tensor, "row choice"], Int[Tensor, "row choice"]]:
        """Return the experts that are chosen for each row, and the factors of their outputs.

        Args:
            routing: the weights of the router, for any number of experts.
        """
        _, scores, chosen = functional_call(self.router, routing, (x,))
        return scores.to(x.dtype), chosen

    def gates(self, routing: dict[str, Tensor], x: Float[Tensor, "row inputs"]) -> Float[Tensor, "row expert"]:
        """Return the factors of all experts' outputs; 0 for those not chosen."""
        scores, chosen = self.route(routing, x)
        return scores.new_zeros(len(x), len(next(iter(routing.values())))).scatter(1, chosen, scores)

    def read(self) -> list[Expert]:
        """Return the weights of all experts."""
        module = self.experts
        up, down = module.gate_up_proj.detach(), module.down_proj.detach()
        up, down = (up.transpose(1, 2), down) if module.is_transposed else (up, down.transpose(1, 2))
        up = self._by_unit(up)
        if not module.has_bias:
            return [Expert(reads, None, writes, None) for reads, writes in zip(up, down, strict=True)]
        up_bias = self._by_unit(module.gate_up_proj_bias.detach().unsqueeze(-1)).squeeze(-1)
        return [Expert(*values) for values in zip(up, up_bias, down, module.down_proj_bias.detach(), strict=True)]

    @torch.no_grad()
    def write(self, experts: Sequence[Expert], routing: dict[str, Tensor]) -> None:
        """Write the weights of all experts and of the router in place."""
        module = self.experts
        up, down = (torch.stack([getattr(expert, name) for expert in experts]) for name in ("up", "down"))
        up = self._as_stored(up)
        module.gate_up_proj.copy_(up.transpose(1, 2) if module.is_transposed else up)
        module.down_proj.copy_(down if module.is_transposed else down.transpose(1, 2))
        if module.has_bias:
            up_bias, bias = (torch.stack([getattr(expert, name) for expert in experts]) for name in ("up_bias", "bias"))
            module.gate_up_proj_bias.copy_(self._as_stored(up_bias.unsqueeze(-1)).squeeze(-1))
            module.down_proj_bias.copy_(bias)
        for name, values in routing.items():
            self.router.get_parameter(name).copy_(values)

    def hidden(self, expert: Expert, x: Float[Tensor, "row inputs"]) -> Float[Tensor, "row unit"]:
        """Return the activated hidden units of an expert."""
        values = x @ expert.up.flatten(0, 1).T
        if expert.up_bias is not None:
            values = values + expert.up_bias.flatten()
        values = values.unflatten(1, expert.up.shape[:2])
        joined = values.transpose(1, 2) if self.experts.is_concatenated else values
        activated: Tensor = self.experts._apply_gate(joined.flatten(1))
        return activated

    def output(self, expert: Expert, x: Float[Tensor, "row inputs"]) -> Float[Tensor, "row outputs"]:
        """Return what an expert writes."""
        written = self.hidden(expert, x) @ expert.down
        return written if expert.bias is None else written + expert.bias

    def mixture(
        self, experts: Sequence[Expert], gates: Float[Tensor, "row expert"], x: Float[Tensor, "row inputs"]
    ) -> Float[Tensor, "row outputs"]:
        """Return the sum of the experts' outputs by their gates."""
        total = torch.zeros_like(x)
        for index, expert in enumerate(experts):
            rows = gates[:, index].nonzero().flatten()
            total.index_add_(0, rows, gates[rows, index].unsqueeze(1) * self.output(expert, x[rows]))
        return total

    def all_outputs(
        self, experts: Sequence[Expert], x: Float[Tensor, "row inputs"]
    ) -> Iterator[tuple[slice, Float[Tensor, "row expert outputs"]]]:
        """Yield slices of the rows, and what every expert writes there."""
        for start in range(0, len(x), CHUNK):
            part = slice(start, start + CHUNK)
            yield part, torch.stack([self.output(expert, x[part]) for expert in experts], 1)

    def _by_unit(self, stored: Float[Tensor, "expert entry inputs"]) -> Float[Tensor, "expert unit branch inputs"]:
        units = stored.shape[1] // 2
        if self.experts.is_concatenated:
            return stored.unflatten(1, (2, units)).transpose(1, 2)
        return stored.unflatten(1, (units, 2))

    def _as_stored(self, values: Float[Tensor, "expert unit branch inputs"]) -> Float[Tensor, "expert entry inputs"]:
        return (values.transpose(1, 2) if self.experts.is_concatenated else values).flatten(1, 2)
