"""The declaration that each alignment method works on: a transformation of the model's own declaration."""

from transfuse.alignment.flow.heads import cross_head, shared_queries, without_scales
from transfuse.alignment.flow.stack import joint_queries
from transfuse.config.flow_options import FlowOptions
from transfuse.config.literals import Groups
from transfuse.network.space import Group
from transfuse.network.spec import Spec
from transfuse.network.symmetry import restrict, symmetric


def alignment_spec(spec: Spec, align: str, flow: FlowOptions, groups: Groups) -> Spec:
    """Return an unfused declaration with the spaces that an alignment method finds maps for."""
    if align == "none":
        return spec
    if align == "flow":
        return flow_spec(spec, flow)
    return permutation_only(symmetric(spec)) if groups == "permutations" else symmetric(spec)


def flow_spec(spec: Spec, options: FlowOptions) -> Spec:
    """Return the declaration for the transport-map flow, with queries and heads as its options say."""
    queries = {"separate": lambda spec: spec, "shared": shared_queries, "joint": joint_queries}
    return cross_head(queries[options.queries](without_scales(spec)))


def permutation_only(spec: Spec) -> Spec:
    """Return a symmetric declaration whose units are only permuted, as in Git Re-Basin. Rotary planes are fixed."""
    fixed = (Group.COMPLEX, Group.POSITIVE)
    return restrict(spec, lambda space: Group.FIXED if space.group in fixed else Group.PERMUTATION)
