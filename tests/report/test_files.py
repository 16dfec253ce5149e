from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from xai_core.report import exp_json
from xai_core.report.maps import grey, map_files, overlay, save_map

CELL = ("vgg19", "224", "000000000001-orange", "grad_cam")


def test_exp_json_has_the_studys_structure(make_record):
    records = [
        make_record(0.5, energy=1.0, energy_total=2.0),
        make_record(1 / 3, size="original", energy=0.1, energy_total=0.3),
    ]
    content = json.loads(exp_json.render(records))
    assert list(content) == ["224", "original"]
    assert content["original"] == [
        {
            "id": 1,
            "class": "orange",
            "method": "grad_cam",
            "net": "squeezenet1_0",
            "P": 1 / 3,
            "E": 0.1,
            "E_total": 0.3,
        }
    ]


def test_saved_values_are_the_map_bit_for_bit(tmp_path):
    values = np.random.default_rng(0).normal(size=(3, 5, 7)).astype(np.float32)
    save_map(tmp_path, CELL, values, np.zeros((5, 7, 3), np.uint8))
    png, npy = map_files(tmp_path, CELL, overlay=False)
    np.testing.assert_array_equal(np.load(npy), values)
    np.testing.assert_array_equal(cv2.imread(str(png), cv2.IMREAD_UNCHANGED), grey(values))
    assert sorted(tmp_path.rglob("*.*")) == sorted([png, npy])


def test_one_channel_maps_get_an_overlay_of_the_maps_size(tmp_path):
    values = np.linspace(0, 1, 35, dtype=np.float32).reshape(1, 5, 7)
    save_map(tmp_path, CELL, values, np.zeros((50, 70, 3), np.uint8))
    picture = cv2.imread(str(map_files(tmp_path, CELL, overlay=True)[2]))
    assert picture.shape == (5, 7, 3)


def test_grey_is_the_largest_magnitude_over_channels_scaled_to_the_peak():
    values = np.array([[[0.0, -4.0]], [[1.0, 2.0]]])
    assert grey(values).tolist() == [[64, 255]]


def test_grey_of_an_empty_map_is_black():
    assert not grey(np.zeros((3, 2, 2))).any()


@pytest.mark.parametrize(("value", "channel"), [(1.0, 2), (0.0, 0)])
def test_overlay_is_red_for_the_class_and_blue_elsewhere(value, channel):
    values = np.array([[value, 1 - value]])
    blue_green_red = overlay(values, np.zeros((1, 2, 3), np.uint8))[0, 0]
    assert blue_green_red.argmax() == channel
