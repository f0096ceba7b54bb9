"""Register a merge method of your own: spherical interpolation of two aligned models, tensor by tensor."""

import torch

from transfuse import MergeRequest, TransfuseError, merge_method


@merge_method("slerp")
def slerp(request: MergeRequest) -> dict[str, torch.Tensor]:
    """Interpolate on the arc between the tensors of the two models instead of on the line."""
    if len(request.parents) != 2:
        raise TransfuseError("merge slerp takes two models; give two, or choose --merge mean")
    anchor, other = request.parents
    share = request.weights[1]
    fused = {}
    for name in anchor:
        start, end = anchor[name], other[name]
        cosine = torch.nn.functional.cosine_similarity(start.flatten(), end.flatten(), dim=0)
        angle = cosine.clamp(-1, 1).acos()
        if angle.sin() < 1e-3:  # nearly parallel: the arc is the line
            fused[name] = torch.lerp(start, end, share)
        else:
            fused[name] = (((1 - share) * angle).sin() * start + (share * angle).sin() * end) / angle.sin()
    return fused
