"""What goes wrong in explanations, on purpose: each is caught; and silence where nothing is."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import xai_core.data.classes
import xai_core.methods.grad_cam
import xai_core.relu_rules
import xai_core.study
from tests.plugin.test_gate import FAILED, OK, gated, verdict  # noqa: F401
from xai_core.engine import AutogradEngine
from xai_core.pytest_plugin.run import Run
from xai_core.relu_rules import ReluRule, ReluRules
from xai_core.signals import ACTIVATION, ACTIVATION_GRADIENT


@pytest.fixture
def saved(gated, monkeypatch):  # noqa: F811
    """A baseline by the engine that reads best, so that it can be broken in one place."""
    monkeypatch.setattr(Run, "engine", AutogradEngine())
    assert gated.gate("--concentration-save=main").ret == OK
    return gated


def guided_without_the_forward_mask(monkeypatch):
    plain = xai_core.relu_rules.relu_backward

    def broken(rule, g, active):
        return g.relu() if rule is ReluRule.GUIDED else plain(rule, g, active)

    monkeypatch.setattr(xai_core.relu_rules, "relu_backward", broken)


def gradient_at_the_layers_input(monkeypatch):
    plain = xai_core.methods.grad_cam.coarse_grad_cam

    def broken(signals):
        masked = signals[ACTIVATION_GRADIENT] * (signals[ACTIVATION] > 0)
        return plain({**signals, ACTIVATION_GRADIENT: masked})

    monkeypatch.setattr(xai_core.methods.grad_cam, "coarse_grad_cam", broken)


def mask_not_dilated(monkeypatch):
    monkeypatch.setattr(xai_core.study, "dilate", lambda mask, share: mask)


def mask_shifted(monkeypatch):
    plain = xai_core.study.dilate
    monkeypatch.setattr(
        xai_core.study, "dilate", lambda mask, share: np.roll(plain(mask, share), 8, axis=1)
    )


def one_relu_missed(monkeypatch):
    plain, calls = ReluRules._relu, []

    def broken(self, input, inplace=False):
        calls.append(1)
        return torch.relu(input) if len(calls) % 2 else plain(self, input, inplace)

    monkeypatch.setattr(ReluRules, "_relu", broken)
    monkeypatch.setattr(ReluRules, "check", lambda self, *logits_and_images: None)


def class_mapped_to_a_wrong_index(monkeypatch):
    plain = xai_core.data.classes.ClassMap.indices
    monkeypatch.setattr(
        xai_core.data.classes.ClassMap,
        "indices",
        lambda self, name: (1,) if name == "banana" else plain(self, name),
    )


@pytest.mark.parametrize(
    ("degrade", "sentence"),
    [
        (guided_without_the_forward_mask, "FAILED: exact comparison"),
        (gradient_at_the_layers_input, "FAILED: exact comparison"),
        (mask_not_dilated, "FAILED: other dilated mask"),
        (mask_shifted, "FAILED: exact comparison"),
        (one_relu_missed, "FAILED: exact comparison"),
        (class_mapped_to_a_wrong_index, "FAILED: other explained output"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_degradation_is_caught(saved, monkeypatch, degrade, sentence):
    degrade(monkeypatch)
    result = saved.gate("--concentration-compare")
    assert result.ret == FAILED
    assert sentence in verdict(saved)


def test_half_of_the_samples_missing_is_caught(saved):
    result = saved.gate("--concentration-compare", "--image-ids=1,2")
    assert result.ret == FAILED
    assert "12 records are in the baseline only" in verdict(saved)


def test_a_record_that_is_no_number_is_caught(saved, monkeypatch):
    plain, calls = xai_core.study._measure, []

    def broken(values, mask):
        calls.append(1)
        found = plain(values, mask)
        return {**found, "concentration": float("nan")} if len(calls) == 5 else found

    monkeypatch.setattr(xai_core.study, "_measure", broken)
    result = saved.gate("--concentration-compare")
    assert result.ret != OK


def test_weights_with_noise_are_seen(saved):
    saved.net(noise=0.02)
    loose = "--concentration-compare-fail=zero_energy:0"
    assert saved.gate("--concentration-compare", loose).ret == OK
    assert "not everything that decides P is the same" in verdict(saved)
    assert "| weights_sha256 " in verdict(saved)


@pytest.mark.parametrize(
    "options",
    [
        ["--batch-size=3"],
        ["--threads=2"],
        ["--batch-size=2", "--threads=2"],
        ["bench/test_concentration.py", "--size=32", "--method=cam,backprop,deconvolution"],
    ],
    ids=" ".join,
)
def test_silence_where_nothing_is_wrong(gated, options):  # noqa: F811
    rules = "--concentration-compare-fail=mean:0.005,class:0.005,each:0.01,order,zero_energy:0"
    assert gated.gate("--concentration-save=main").ret == OK
    accepted = ["--accept-new"] if "--method" in " ".join(options) else []
    assert gated.gate("--concentration-compare", rules, *options, *accepted).ret == OK
