"""An opened declaration as an alignment sees it: the spaces that it finds maps for."""

from transfuse.alignment.flow.heads import cross_head, shared_queries, without_scales
from transfuse.alignment.flow.stack import joint_queries
from transfuse.config.literals import Align, FlowOptions, Groups
from transfuse.network.space import Group
from transfuse.network.spec import Spec
from transfuse.network.symmetry import restrict, symmetric


def alignment_spec(spec: Spec, align: Align, paper: FlowOptions, groups: Groups) -> Spec:
    """An opened declaration as an alignment sees it: the spaces that it finds maps for."""
    if align == "none":
        return spec
    if align == "flow":
        return flow_spec(spec, paper)
    return permutation_only(symmetric(spec)) if groups == "permutations" else symmetric(spec)


def flow_spec(spec: Spec, options: FlowOptions) -> Spec:
    """What the flow maps: queries as its options have them, heads crossed or apart."""
    queries = {"separate": lambda spec: spec, "shared": shared_queries, "joint": joint_queries}
    return cross_head(queries[options.queries](without_scales(spec)))


def permutation_only(spec: Spec) -> Spec:
    """A symmetric declaration whose units are only permuted: what Git Re-Basin knows; rotary planes stay."""
    rigid = (Group.COMPLEX, Group.POSITIVE)
    return restrict(spec, lambda space: Group.FIXED if space.group in rigid else Group.PERMUTATION)
