"""The methods, keys and parameters of mergekit's files that mean the same here, and what to write instead of others."""

METHODS = {
    "linear": "mean",
    "slerp": "slerp",
    "task_arithmetic": "task-arithmetic",
    "ties": "ties",
    "dare_linear": "dare-linear",
    "dare_ties": "dare-ties",
    "nuslerp": "slerp",
}
AVERAGED = {"ties"}  # methods that normalize weights, unless the file says otherwise
DROPS = {"dare_linear", "dare_ties"}  # methods that rescale what is kept
PARAMETERS = {
    "linear": {"weight", "normalize", "int8_mask"},
    "slerp": {"t", "int8_mask"},
    "task_arithmetic": {"weight", "density", "normalize", "lambda", "int8_mask"},  # all are kept, whatever the density
    "ties": {"weight", "density", "normalize", "lambda", "int8_mask", "rescale"},
    "dare_linear": {"weight", "density", "normalize", "lambda", "int8_mask", "rescale"},
    "dare_ties": {"weight", "density", "normalize", "lambda", "int8_mask", "rescale"},
    "nuslerp": {"weight", "int8_mask", "nuslerp_flatten", "nuslerp_row_wise"},
}
ALL_PARAMETERS = frozenset[str]().union(*PARAMETERS.values())
OF_THE_FILE = (
    "normalize",
    "lambda",
    "int8_mask",
    "rescale",
    "nuslerp_flatten",
    "nuslerp_row_wise",
)  # parameters that all models share
MARKS = {"merge_method", "base_model", "slices", "modules"}  # keys that only mergekit has
KEYS = (
    *("merge_method", "base_model", "models", "slices", "parameters", "dtype", "out_dtype"),
    *("tokenizer_source", "tokenizer", "chat_template", "random_seed"),
)
SLICE_KEYS = ("sources", "base_model", "parameters")
MOE = "this file is for mergekit-moe, which joins models as experts of one; write merge_method and models to merge them"
INSTEAD = {
    "passthrough": "it stacks layers instead of merging models, which mergekit alone does",
    "model_stock": "write linear, or run `transfuse fuse A B --base BASE --data D`",
    "della": "the nearest is dare_ties",
    "della_linear": "the nearest is dare_linear",
    "breadcrumbs": "the nearest is task_arithmetic",
    "breadcrumbs_ties": "the nearest is ties",
    "sce": "the nearest is ties",
    "karcher": "the nearest is linear, or slerp for two models",
    "multislerp": "the nearest is linear, or slerp for two models",
    "arcee_fusion": "the nearest is ties, with the other model in models and a density",
    "nearswap": "the nearest is slerp",
    "modules": "write models with the models to merge",
    "experts": MOE,
    "gate_mode": MOE,
    "name": "leave it out; the output folder names the model",
}
