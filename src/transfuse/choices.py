"""The names that options may have, said once; what each means stands where it is implemented. No heavy imports."""

from typing import Literal

Align = Literal["none", "flow", "exact"]
Merge = Literal["mean"]
Evidence = Literal["activations", "weights", "both"]
Plan = Literal["soft", "hard", "widening", "uniform"]
Cost = Literal["euclidean", "squared", "cosine"]
Scale = Literal["max", "mean", "median", "log", "none"]
Transform = Literal["standardise", "centre", "normalise", "raw"]
Policy = Literal["mean", "scalar", "matrix", "skip", "branch", "identity"]
Queries = Literal["separate", "shared", "joint"]
Values = Literal["values", "context"]
Heads = Literal["crossed", "aware"]
Part = Literal["embeddings", "attention", "norms", "ffn", "biases", "head"]
Rules = Literal["corrected", "released"]
Dtype = Literal["auto", "float64", "float32", "bfloat16", "float16"]
