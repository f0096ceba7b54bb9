"""The methods, keys and parameters of mergekit's files that mean the same here, and what to write instead of others."""

METHODS = {
    "linear": "mean",
    "slerp": "slerp",
    "task_arithmetic": "task-arithmetic",
    "ties": "ties",
    "dare_linear": "dare-linear",
    "dare_ties": "dare-ties",
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
}
OF_THE_FILE = ("normalize", "lambda", "int8_mask", "rescale")  # parameters that all models share
MARKS = {"merge_method", "base_model", "slices", "modules"}  # keys that only mergekit has
KEYS = (
    *("merge_method", "base_model", "models", "slices", "parameters", "dtype", "out_dtype"),
    *("tokenizer_source", "tokenizer", "chat_template"),
)
SLICE_KEYS = ("sources", "base_model", "parameters")
INSTEAD = {
    "passthrough": "it stacks layers instead of merging models, which mergekit alone does",
    "model_stock": "write linear with the weights that you want, or give --data and a file without merge_method",
    "modules": "write models with the models to merge",
    "random_seed": "leave it out, and pass --seed instead",
    "name": "leave it out; the output folder names the model",
}
