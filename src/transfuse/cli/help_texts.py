"""Help texts of options that mean something else in a command than in `fuse`, for which they are declared.

A command does not have all options of `fuse`, and it may have other defaults.
"""

IN_TIME = "without a GPU, only as many samples as training can process in the time allowed"
KEPT_HEAD = {
    "head": "fused: models of one class and one task. anchor: keep the head of the first model; the others may have"
    " other heads, other classes, or none."
}

FUSE = {
    "max_memory": "Memory limit of the process, such as 8GB. Larger models are streamed, if possible.",
    "effort": "How long training may take: quick takes the best start without training; normal, 5 minutes; high, 30.",
}

PLAN = {"data": "Samples that the fusion would read. One of them is prepared, and no model is run."}

CARRY = {
    "data": "Unlabeled samples of what TUNED learned: a folder of images, a text, parquet, CSV or JSON-lines file, a"
    " saved dataset, or a Hub name. `generated`: texts that TUNED, if it is a causal language model, generates itself."
    " Without samples, the difference of the weights is added.",
    "effort": "How long training may take: quick fits layers and does not train; normal, 5 minutes; high, 30.",
    "samples": "Use at most this many samples of --data, and of --keep. Default: 2000. Where weights are trained: up"
    f" to 10000 images, and {IN_TIME}.",
    "augment": "Changes of the training samples. auto: variants that TUNED predicts too: images are shifted and mixed"
    " in pairs, masked texts get other masks and tokens drawn from its predictions. crop: shifted images. flip:"
    " mirrored.",
    "adapter_out": "Write OUT/adapter too: the difference of the result from NEW, as a LoRA adapter of PEFT with at"
    " most this rank.",
    "maps": "Write the maps from the units of BASE to those of NEW to this .safetensors file.",
    "match_on": "Match the units of BASE and NEW by their activations, their weights, or both. auto: both with --data,"
    " else weights.",
    "groups": "Match units by every symmetry (all), or only by permutations (a control).",
    "dtype": "Precision of the written weights. auto: that of NEW.",
}

PATH = KEPT_HEAD | {
    "align": "Match units by the architecture's symmetries (exact), by these and then training (learned), by the"
    " paper's transport maps (flow), or not at all (none).",
    "match_on": "Match units by their activations, their weights, or both. auto: activations for flow, else both.",
    "samples": "Use at most this many calibration samples. Default: 200 for flow, else 2000.",
    "teacher_weighting": "How to weight the models for each sample: equally, by confidence (for images, also on shifted"
    " copies), or by the probability of the true label. auto: labels for texts, whose tokens are their labels, else"
    " confidence.",
    "objective": "Target: the mean prediction of both models (parents), or the labels.",
    "steps": "Number of training steps, at most. Default: 500.",
    "learning_rate": "Initial learning rate. Default: 0.01.",
    "augment": "Changes of the training images. crop: shifted. flip: mirrored. auto: none.",
}

LANDSCAPE = KEPT_HEAD | {
    "align": "exact: first transform B and C into A's basis, unless they were fused into it. none: change no model."
    " Default: exact.",
    "match_on": "Match units on --data's training split, on weights, or both. Default: weights.",
    "samples": "Samples that units are matched on (with --match-on activations or both). Default: 2000.",
}

SHRINK = {
    "report": "Write OUT/report.html too, measured on the test split of DATA (at most 2000 samples).",
    "effort": "How long the smaller model is trained to do what MODEL does: quick fits layers and does not train;"
    " normal, 5 minutes; high, 30.",
}

REPORT = {"cache": "The --cache of the fusion, if it had one: maps that are kept there are not computed again."}

DOCTOR = {
    "data": "Unlabeled samples to match and fuse on: a folder of images, a text, parquet, CSV or JSON-lines file, a"
    " saved dataset, or a Hub name. Without samples, the weights are matched and averaged.",
    "match_on": "Match units by their activations, their weights, or both. auto: both with --data and --merge mean;"
    " else weights.",
    "merge": "How the model and its copy are merged, as in fuse. auto: least-squares with --data, else mean.",
    "samples": "Use at most this many samples. Default: 2000. With --merge learned: up to 10000 images, and"
    f" {IN_TIME}.",
}
