import torch

from transfuse import MergeRequest, TransfuseError, merge_method


@merge_method("full-norm")
def full_norm(request: MergeRequest) -> dict[str, torch.Tensor]:
    """Average two models, and give each tensor the mean norm of theirs, since an average is shorter than its parts."""
    if len(request.parents) != 2:
        raise TransfuseError("merge full-norm takes two models; give two, or choose merge mean")
    anchor, other = request.parents
    first, second = request.weights
    fused = {}
    for name in anchor:
        average = first * anchor[name] + second * other[name]
        norm = first * anchor[name].norm() + second * other[name].norm()
        fused[name] = average * (norm / average.norm().clamp_min(1e-12))
    return fused
