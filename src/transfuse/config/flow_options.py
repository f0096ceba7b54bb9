"""The options of `align: flow`, the paper's transport maps; the defaults are its setting for ViT."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from transfuse.config.fields import Finite, List, Positive, option
from transfuse.config.literals import Cost, Heads, Part, Plan, Policy, Queries, Scale, Transform, Values

PANEL = "Options of --align flow"


class FlowOptions(BaseModel):
    """How transport maps are found and applied (TF-OT, sections 4 and 5, and appendix)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    plan: Plan = option(
        "soft",
        "soft: entropic optimal transport. hard: an exact assignment. widening: soft only where the anchor is wider."
        " uniform: every unit to every unit, a control.",
        panel=PANEL,
    )
    regularization: Positive | None = option(
        None,
        "Entropic regularization of soft plans, in units of the scaled cost (--flow.scale). Default: 0.08 for"
        " activations, 0.06 for weights.",
        "NUMBER",
        PANEL,
    )
    support: Annotated[Finite, Field(gt=1)] | None = option(
        None, "Regularize soft plans until each unit is spread over this many units on average.", "UNITS", PANEL
    )
    cost: Cost = option("euclidean", "Cost between two units.", panel=PANEL)
    scale: Scale = option("max", "Divide costs by their maximum, mean or median, or take logarithms.", panel=PANEL)
    transform: Transform = option("standardize", "Transform of each unit's activations before costs.", panel=PANEL)
    policy: Policy = option(
        "mean",
        "Map after a residual addition: the mean of the maps of skip and branch, a mean weighted by activations"
        " (scalar, matrix), one of the two, or the identity.",
        panel=PANEL,
    )
    queries: Queries = option(
        "separate",
        "Maps of queries and keys: two maps, one map for both (shared), or one map of twice the size (joint).",
        panel=PANEL,
    )
    values: Values = option(
        "values", "Match the channels of values on the values or on the attention's context.", panel=PANEL
    )
    heads: Heads = option(
        "crossed", "crossed: one plan over all heads. aware: heads to heads, channels within each pair.", panel=PANEL
    )
    tokens: Annotated[str, Field(pattern=r"^(all|class|window-[1-9]\d*)$")] = option(
        "all",
        "Tokens whose activations are compared: all, the class token, or it and the central N x N patches.",
        "all|class|window-N",
        PANEL,
    )
    max_loss: Positive | None = option(
        None, "Use only labeled samples whose loss is at most this in every model.", "NUMBER", PANEL
    )
    keep: Annotated[tuple[Part, ...], List] = option(
        (),
        "Leave these parts as the anchor has them: embeddings, attention, norms, ffn, biases, head.",
        "PART,...",
        PANEL,
    )
