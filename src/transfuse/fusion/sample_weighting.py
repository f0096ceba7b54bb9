"""The method that weights the parents of a fusion for each sample."""

from functools import partial

from transfuse.base.progress import Progress, silent
from transfuse.distillation.similar_images import SimilarImages, are_comparable
from transfuse.distillation.teacher_weighting import TEACHER_WEIGHTING, WeightingFn, ineffective_weighting, uniform
from transfuse.fusion.matched import Matched
from transfuse.network.output_losses import output_loss


def sample_weighting(matched: Matched, progress: Progress = silent) -> WeightingFn:
    """Return the method that weights the parents per sample. Numbers and embeddings are not weighted."""
    name, batches = matched.options.teacher_weighting, matched.context.batches
    if not batches:
        return TEACHER_WEIGHTING[name]
    loss = output_loss(matched.networks[0].model, in_one_basis=True)
    if line := ineffective_weighting(name, loss):
        progress.warn(line)
    own_heads = matched.options.head == "fused"  # else all parents have that of the anchor
    if loss.entropies is None or (name == "auto" and not own_heads):
        return uniform
    models = [matched.inputs.whole.get(number, network.model) for number, network in enumerate(matched.networks)]
    by_confidence = name in ("auto", "confidence")
    if own_heads and by_confidence and not matched.inputs.streamed and are_comparable(models, batches[0]):
        track = partial(progress.track, description="weighting the models for each image")
        return SimilarImages(models, matched.weights, batches, track)
    return TEACHER_WEIGHTING[name]
