"""A net is looked at when it is loaded: one row of logits for each image, always the same."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from xai_core.errors import BadInput
from xai_core.nets import NetSpec, load_net


class Head(nn.Module):
    """A small convolutional net whose logits go through a function."""

    def __init__(self, end: Callable[[Tensor], object], outputs: int = 5) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.fc = nn.Linear(4, outputs)
        self.end = end

    def forward(self, x):
        return self.end(self.fc(self.conv(x).relu().mean((2, 3))))


def load(end: Callable[[Tensor], object] = lambda z: z, outputs: int = 5, **fields):
    return load_net(NetSpec("odd", lambda: Head(end, outputs), "conv", **fields), "random")


REFUSED = {
    "scalar": (lambda z: z[:, :1].squeeze(), r"float32 of shape \(\) for one image, not logits"),
    "no batch": (lambda z: z.squeeze(0), r"float32 of shape \(5,\) for one image"),
    "a map of scores": (lambda z: z[..., None, None], r"float32 of shape \(1, 5, 1, 1\)"),
    "whole numbers": (lambda z: (z * 10).long(), r"int64 of shape \(1, 5\)"),
    "a tuple": (lambda z: (z, z), "a tuple, not a tensor of logits"),
    "a dict": (lambda z: {"logits": z}, "a dict, not a tensor of logits"),
    "one logit": (lambda z: z[:, :1], "has 1 output: two or more can be told"),
    "probabilities": (lambda z: z.softmax(1), r"gives probabilities \(their sum is 1\)"),
    "log-probabilities": (lambda z: z.log_softmax(1), "gives log-probabilities"),
    "dropout": (lambda z: F.dropout(z, 0.1, training=True), "other logits each time"),
    "noise": (lambda z: z + 0.01 * torch.rand_like(z), "other logits each time"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_no_row_of_logits_is_refused_in_a_sentence(what):
    end, sentence = REFUSED[what]
    with pytest.raises(BadInput, match=f"^odd .*{sentence}") as caught:
        load(end)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "end",
    [torch.relu, lambda z: z * 0, torch.sigmoid, lambda z: z - z.max(), lambda z: z / z.sum()],
    ids=["relu", "zeros", "sigmoid", "largest is 0", "sum is 1, of either sign"],
)
def test_what_may_be_logits_is_taken(end):
    assert load(end).weights.random


def test_class_names_are_as_many_as_outputs():
    assert load(class_names=tuple("abcde")).class_names == tuple("abcde")
    with pytest.raises(BadInput, match=r"^odd has 5 outputs and 2 class names$"):
        load(class_names=("a", "b"))


def test_a_head_that_may_put_the_background_first_needs_names():
    with pytest.raises(BadInput, match=r"1001 outputs: .* off by one; .*logits\[:, 1:\]"):
        load(outputs=1001)
    with pytest.raises(BadInput, match="1001 outputs"):
        load(outputs=1001, class_names=("Background", *map(str, range(1000))))
    load(outputs=1001, class_names=tuple(map(str, range(1001))))
    load(lambda z: z[:, 1:], outputs=1001)


def test_a_net_is_shown_the_size_that_it_takes():
    sides = []

    def build():
        module = Head(lambda z: z)
        module.register_forward_pre_hook(lambda part, args: sides.append(args[0].shape[-1]))
        return module

    for size, expected in ((None, {64}), (32, {32})):
        sides.clear()
        load_net(NetSpec("sized", build, "conv", input_size=size), "random")
        assert set(sides) == expected


def test_a_net_that_takes_no_such_image_is_left_to_its_own():
    flat = nn.Sequential(nn.Conv2d(3, 2, 1), nn.Flatten(), nn.Linear(2 * 36, 2))
    assert load_net(NetSpec("flat", lambda: flat, "0"), "random").target_layer == "0"

    class Rows(nn.Module):  # several rows for an image of another size than its own
        def __init__(self):
            super().__init__()
            self.conv, self.fc = nn.Conv2d(3, 1, 1), nn.Linear(1024, 3)

        def forward(self, x):
            return self.fc(self.conv(x).reshape(-1, 1024))

    assert load_net(NetSpec("rows", Rows, "conv"), "random").target_layer == "conv"


def test_looking_leaves_the_generator_alone():
    torch.manual_seed(3)
    wanted = torch.rand(2)
    torch.manual_seed(3)
    load(lambda z: z + torch.rand_like(z) * 0)
    assert torch.equal(torch.rand(2), wanted)


def test_a_traced_graph_is_a_net_like_any_other_and_its_dropout_is_seen():
    class Dropped(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(4, 5)

        def forward(self, x):
            z = self.conv(x).relu().mean((2, 3))
            return self.fc(F.dropout(z, training=self.training))

    traced = fx.symbolic_trace(Dropped().eval())
    assert load_net(NetSpec("traced", lambda: traced), "random").target_layer == "conv"
    in_training = fx.symbolic_trace(Dropped().train())
    with pytest.raises(BadInput, match="dropout"):
        load_net(NetSpec("traced", lambda: in_training), "random")


def test_an_exported_program_is_refused():
    program = torch.export.export(Head(lambda z: z).eval(), (torch.rand(1, 3, 64, 64),))
    with pytest.raises(BadInput, match=r"its build\(\) gives a ExportedProgram, not a torch"):
        load_net(NetSpec("exported", lambda: program))
    with pytest.raises(BadInput, match=r"can't be set to evaluation mode, .*was exported instead"):
        load_net(NetSpec("exported", program.module))


def test_a_scripted_net_is_loaded_without_a_target_layer():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch deprecates it
        scripted = torch.jit.trace(Head(lambda z: z).eval(), torch.rand(1, 3, 64, 64))
        net = load_net(NetSpec("scripted", lambda: scripted))
        with pytest.raises(BadInput, match=r"^scripted can't be randomised: no layer has param"):
            load_net(NetSpec("scripted", lambda: scripted), randomised="all")
    assert net.no_target_layer.startswith("scripted has no target layer")


def test_weights_too_large_for_the_type_are_refused():
    def build():
        module = Head(lambda z: z).double()
        nn.init.constant_(module.fc.bias, 1e300)
        return module

    with pytest.raises(BadInput, match=r"^odd as float32 can't be used: fc.bias is infinite"):
        load_net(NetSpec("odd", build, "conv"))
    load_net(NetSpec("odd", build, "conv"), dtype=torch.float64)
