"""Find out whether models descend from one base, so that their units correspond already and alignment is the identity.

Training moves weights little compared with their size, so fine-tunes of one base have matrices that correlate entry by
entry. Matrices of models from different seeds do not, and neither do those of a model whose units were permuted or
rotated. Models that were trained apart from one random start correlate in some matrices and hardly in others, so the
lowest correlation counts.
"""

from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import combinations
from pathlib import Path
from statistics import median
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from transfuse.base.lazy import Tensors
from transfuse.checkpoint.reading.load import Model, adapter_base, local_directory
from transfuse.config.options import Options
from transfuse.errors import CheckpointError, ConfigError
from transfuse.fusion.models.compatible import stored_network
from transfuse.network.layout import unfused
from transfuse.network.model import Network, declaration, has_declaration, unfused_tensors
from transfuse.network.operations import Linear
from transfuse.network.spec import Spec

MATRICES = 8  # that are compared where the others need not be read
SHARED = 0.7  # correlation of every compared matrix from which the units of two models correspond
CONSTANT = 1e-5  # differences within a matrix, relative to its size, up to which they are rounding
OTHER_HEADS = "fuse all but the heads with --head anchor"
CHOICES = ("align", "match_on", "groups", "basis")  # options with which a user asks for an alignment


def of_one_base(models: Sequence[Model | None]) -> bool:
    """Return whether it is known that models share a base, as they are adapters of one, or that base itself.

    Args:
        models: paths or Hub names. It is not known of models in memory, which may be None.
    """
    paths = [model for model in models if isinstance(model, str | Path)]
    folders = {(adapter_base(path) or local_directory(path, "allow")).resolve() for path in paths}
    return len(paths) == len(models) and len(folders) == 1


def base_correlation(
    networks: Sequence[Network], count: int | None = None, borrowed: Collection[str] = (), least: float = SHARED
) -> float | None:
    """Return the mean correlation of the models' matrices; None unless all of them descend from one base.

    The first matrix usually tells models that do not, and no other is read.

    Args:
        count: how many matrices are compared; None: all, so that a single layer that was moved is noticed.
        borrowed: tensors that some model takes from the anchor, so that they tell nothing.
        least: the correlation of every matrix from which models are taken to share a base.
    """
    values: list[float] = []
    for name in compared_matrices(networks[0].spec, networks[0].tensors, count, borrowed) if networks else ():
        found = _pairwise([network.tensors[name] for network in networks if name in network.tensors])
        if not found or min(found) < least:
            return None
        values += found
    return sum(values) / len(values) if values else None


def correlations(spec: Spec, first: Tensors, second: Tensors, left_out: Collection[str] = ()) -> list[float]:
    """Return the correlation of each compared matrix of a base and a model; empty if they cannot be compared.

    Args:
        spec: the declaration of both, unfused.
        first: the tensors of the base.
        left_out: names of tensors that are not compared.
    """
    names = compared_matrices(spec, first, MATRICES, left_out)
    return [value for name in names for value in _from_base(first[name], second[name])]


def _from_base(base: Tensor, tuned: Tensor) -> list[float]:
    """Return the correlation with a matrix of a base; 1 where that is constant, such as zeros, and so tells nothing."""
    found = _pairwise([base, tuned])
    return [1.0] if found and _centered(base).norm() <= CONSTANT * base.float().norm() else found


def compared_matrices(spec: Spec, tensors: Tensors, count: int | None, borrowed: Collection[str] = ()) -> list[str]:
    """Return the names of matrices whose rows and columns stand for units without identity.

    If there are none, because the stream is fixed, these are the matrices whose rows or columns do, and if nothing is
    known of a class, all matrices.

    Args:
        count: of these, at most so many from all depths; None: all.
        borrowed: names that are left out.
    """
    own = [op for op in spec.linears() if op.matrix in tensors and op.matrix not in borrowed]
    names = [op.matrix for op in own if _is_compared(op, all)] or [op.matrix for op in own if _is_compared(op, any)]
    if not spec.linears():
        names = [name for name, axes in spec.tensors().items() if len(axes) == 2 and name not in borrowed]
    if count is None or len(names) <= count:
        return names
    step = (len(names) - 1) / (count - 1)
    return [names[round(step * index)] for index in range(count)]


def _pairwise(matrices: Sequence[Tensor]) -> list[float]:
    """Return the correlation of every two matrices; empty if their shapes differ."""
    same = all(matrix.shape == matrices[0].shape for matrix in matrices)
    return [correlation(one, other.to(one.device)) for one, other in combinations(matrices, 2)] if same else []


def correlation(first: Float[Tensor, "row column"], second: Float[Tensor, "row column"]) -> float:
    """Return how two matrices agree, from -1 to 1, without what the means of rows and columns explain.

    This is the concordance correlation (Lin, 1989): matrices of different sizes agree less than their correlation says,
    because a copy whose weights are scaled against each other has to be aligned. Two matrices of zeros agree.
    """
    one, other = (_centered(matrix) for matrix in (first, second))
    squares = float(one.square().sum() + other.square().sum())
    return 2 * float((one * other).sum()) / squares if squares else 1.0


def _centered(matrix: Float[Tensor, "row column"]) -> Float[Tensor, "row column"]:
    values = matrix.float()
    return values - values.mean(0) - values.mean(1, keepdim=True) + values.mean()


def _is_compared(op: Linear, sides: Callable[[Iterable[bool]], bool]) -> bool:
    """Return whether the units on all or any sides of a linear map have no identity, so that no two models share them.

    Args:
        sides: the function `all` or `any`.
    """
    return len(op.reads) == 1 and op.stacked is None and sides(axis.is_free for axis in (op.writes, op.reads[0]))


Chosen = TypeVar("Chosen", bound=Options)


def resolve_alignment(
    options: Chosen,
    networks: Sequence[Network],
    models: Sequence[Model | None],
    count: int | None = None,
    borrowed: Collection[str] = (),
) -> tuple[Chosen, float | None]:
    """Return the options, without alignment where it is the identity and the user chose none.

    Args:
        models: where the networks were read, as for `of_one_base`.
        count: how many matrices are compared; None: all.
        borrowed: tensors that some model takes from the anchor.

    Returns:
        The options, and the mean correlation of models of one base; None: they share none, or the user chose.
    """
    if options.model_fields_set & set(CHOICES):
        return options, None
    if networks and not has_declaration(networks[0].model):
        return options.without_alignment(), None
    found = base_correlation(networks, count, borrowed, -1 if of_one_base(models) else SHARED)
    return (options, None) if found is None else (options.without_alignment(), found)


def readable_networks(given: Sequence[Model], models: Sequence[PreTrainedModel]) -> list[Network]:
    """Return models as networks whose tensors are read when they are needed; empty if the files do not allow it.

    Args:
        models: these models, without weights.
    """
    try:
        return [_readable(*pair) for pair in zip(given, models, strict=True)]
    except CheckpointError:
        return []


def _readable(given: Model, model: PreTrainedModel) -> Network:
    if isinstance(given, PreTrainedModel):
        return Network(given, unfused(declaration(given)), unfused_tensors(given))
    return stored_network(local_directory(given, "allow"), model, torch.device("cpu"))


def shared_base_line(found: float) -> str:
    """Return what a user is told about models of one base."""
    return (
        f"the models share a base (their weights correlate by {found:.3f}), so alignment is the identity and is skipped"
        " (--align none)"
    )


def warn_of_strangers(networks: Sequence[Network], warn: Callable[[str], None]) -> None:
    """Warn if models without a declaration do not share a base, so that most of their matrices do not correlate."""
    first, *others = networks
    for network in others if not has_declaration(first.model) else ():
        if median(correlations(first.spec, first.tensors, network.tensors) or [1.0]) < SHARED:
            warn(
                f"{network.name}: its weights do not correlate with those of {first.name}, so the mean of both may be"
                " noise"
            )


def check_descendants(
    spec: Spec,
    base: Tensors,
    models: Sequence[Tensors],
    names: Sequence[str],
    base_name: str,
    advice: str = "give the model that all were fine-tuned from, or leave base out and choose merge mean",
    head_advice: str = OTHER_HEADS,
) -> None:
    """Check that every model descends from a base, all in one basis.

    The heads are compared last, because fine-tunes of one base may begin with random heads of their own.

    Args:
        names: what to call the models in messages.
        base_name: what to call the base in messages.
        advice: what to do if a model does not.
        head_advice: what to do if only its head does not.

    Raises:
        ConfigError: a model does not, or its head does not.
    """
    head = spec.part("head")
    own = [op.matrix for op in spec.linears() if op.matrix in head and op.matrix in base and _is_compared(op, all)]
    for name, tensors in zip(names, models, strict=True):
        found = correlations(spec, base, tensors, head) or [0.0]
        if (min if spec.linears() else median)(found) < SHARED:  # which matrices are the head's may not be known
            lowest = f"some matrix correlates by {min(found):.2f}, less than {SHARED}"
            raise ConfigError(
                f"{name} was not fine-tuned from {base_name} ({lowest}), so its difference is not a task vector;"
                f" {advice}"
            )
        of_head = [value for matrix in own for value in _from_base(base[matrix], tensors[matrix])]
        if of_head and min(of_head) < SHARED:
            lowest = f"some matrix correlates by {min(of_head):.2f}, less than {SHARED}"
            raise ConfigError(
                f"{name}: its head was not fine-tuned from that of {base_name} ({lowest}), so its difference is not a"
                f" task vector; {head_advice}"
            )
