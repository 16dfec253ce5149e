"""Nets: a table of the study's four, any torchvision classification net, a user's own; weights."""

from xai_core.nets.load import load_net
from xai_core.nets.spec import NETS, STUDY_NETS, NetSpec, get_spec, register_net
from xai_core.nets.weights import parse_weights

__all__ = [
    "NETS",
    "STUDY_NETS",
    "NetSpec",
    "get_spec",
    "load_net",
    "parse_weights",
    "register_net",
]
