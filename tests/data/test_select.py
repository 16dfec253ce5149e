"""Selection: seeded, each class on its own, pinned, by area; broken masks stay in."""

from __future__ import annotations

import numpy as np
import pytest

from tests.tiny import DataOf
from xai_core.data.classes import coco_to_imagenet
from xai_core.data.select import Selection, select
from xai_core.errors import BadInput, DataMissing, UnknownChoice, Unsupported
from xai_core.types import Sample

PICTURE = np.zeros((10, 10, 3), np.uint8)


def mask_of(share: float) -> np.ndarray:
    return (np.arange(100) < round(100 * share)).reshape(10, 10)


def data_of(categories=("clock", "orange"), n=20, share=0.3) -> DataOf:
    entries = {Sample(i, c, (1,)): (PICTURE, mask_of(share)) for c in categories for i in range(n)}
    return DataOf(entries)


def ids(samples, category) -> list[int]:
    return [s.image_id for s in samples if s.category == category]


def choose(data, classes=("clock", "orange"), **options) -> list[Sample]:
    return select(data, Selection(classes, **options))


def test_a_seed_gives_the_same_samples_and_another_seed_others():
    data = data_of()
    assert choose(data, per_class=5, seed=3) == choose(data, per_class=5, seed=3)
    choices = {tuple(choose(data, per_class=5, seed=seed)) for seed in range(10)}
    assert len(choices) == 10


def test_every_sample_is_chosen_under_some_seed():
    data = data_of(("orange",), n=6)
    seen = {s for seed in range(40) for s in choose(data, ("orange",), per_class=2, seed=seed)}
    assert len(seen) == 6


def test_per_class_is_the_number_of_each_class_at_most():
    data = data_of()
    data.entries |= {Sample(50 + i, "banana", (1,)): (PICTURE, mask_of(0.3)) for i in range(3)}
    chosen = choose(data, ("clock", "banana"), per_class=5)
    assert (len(ids(chosen, "clock")), len(ids(chosen, "banana"))) == (5, 3)
    assert not ids(chosen, "orange")


def test_samples_come_sorted():
    chosen = choose(data_of(), per_class=8)
    assert chosen == sorted(chosen)


def test_a_class_is_chosen_whatever_the_other_classes_are():
    data = data_of(("banana", "clock", "orange"))
    alone = choose(data, ("orange",), per_class=5)
    assert ids(choose(data, ("clock", "orange"), per_class=5), "orange") == ids(alone, "orange")
    assert ids(choose(data, ("orange", "banana"), per_class=5), "orange") == ids(alone, "orange")
    del data.entries[Sample(0, "clock", (1,))]
    assert choose(data, ("orange",), per_class=5) == alone


def test_classes_are_shuffled_each_in_its_own_way():
    chosen = choose(data_of(n=40), per_class=8)
    assert ids(chosen, "clock") != ids(chosen, "orange")


def test_image_ids_pin_the_images():
    chosen = choose(data_of(), image_ids=[7, 3])
    assert (ids(chosen, "clock"), ids(chosen, "orange")) == ([3, 7], [3, 7])


def test_an_unknown_image_id_is_named():
    with pytest.raises(UnknownChoice, match="unknown image id '99'"):
        choose(data_of(), image_ids=[3, 99])


@pytest.mark.parametrize(
    ("share", "fits"),
    [(0.09, False), (0.10, True), (0.30, True), (0.50, True), (0.51, False)],
)
def test_a_mask_outside_the_limits_is_left_out(share, fits):
    data = data_of(("orange",), n=1)
    data.entries[Sample(5, "orange", (1,))] = (PICTURE, mask_of(share))
    chosen = choose(data, ("orange",), min_area=0.1, max_area=0.5)
    assert (5 in ids(chosen, "orange")) == fits


def test_the_places_of_samples_that_do_not_fit_are_taken_by_others():
    data = data_of(("orange",), n=20)
    for i in range(0, 20, 2):
        data.entries[Sample(i, "orange", (1,))] = (PICTURE, mask_of(0.9))
    assert ids(choose(data, ("orange",), per_class=10), "orange") == list(range(1, 20, 2))


def test_the_default_limits_are_the_studys():
    data = data_of(("orange",), n=1, share=0.71)
    with pytest.raises(DataMissing, match="1% to 70% of its image"):
        choose(data, ("orange",))
    assert choose(data_of(("orange",), n=1, share=0.70), ("orange",))
    assert choose(data_of(("orange",), n=1, share=0.01), ("orange",))


def test_a_sample_with_a_broken_mask_is_chosen_so_that_it_fails_by_name():
    data = data_of(("orange",), n=3)
    broken = Sample(1, "orange", (1,))
    data.entries[broken] = (PICTURE, "the mask is torn")
    assert broken in choose(data, ("orange",))


def test_a_sample_whose_mask_is_none_is_chosen_so_that_it_fails_by_name():
    data = data_of(("orange",), n=3)
    strange = Sample(1, "orange", (1,))
    data.entries[strange] = (PICTURE, mask_of(0.3).astype(np.uint8) * 255)
    assert strange in choose(data, ("orange",))


def test_nothing_to_look_at_is_an_error():
    with pytest.raises(DataMissing, match="pictures has no sample of clock"):
        choose(data_of(share=0.9), ("clock",))


def test_an_unknown_class_is_named_and_one_without_counterpart_is_explained():
    with pytest.raises(UnknownChoice, match="unknown class 'banana'; known: clock, orange"):
        choose(data_of(), ("banana",))
    with pytest.raises(Unsupported, match="'person' has no ImageNet-1k class"):
        select(data_of(), Selection(("person",)), coco_to_imagenet())


def test_a_class_with_a_comma_is_chosen_by_all_and_said_where_a_list_can_t_name_it():
    data = data_of(("hat, red", "hat"))
    assert {s.category for s in choose(data, ("all",))} == {"hat, red", "hat"}
    with pytest.raises(BadInput, match=r"unknown class 'red'; a name with a comma \('hat, red'\)"):
        choose(data, ("hat", "red"))


def test_categories_that_differ_by_a_blank_or_an_underscore_are_different_samples():
    names = ("stop sign", "stop_sign", "stop  sign", " stop sign", "stop sign ", "stop\tsign")
    assert len({Sample(1, name, (0,)).id for name in (*names, "stopsign", "stop%5Fsign")}) == 8
    assert Sample(139, "traffic light", (920,)).id == "000000000139-traffic_light"


def test_all_is_every_class_and_none_is_the_studys():
    data = data_of(("clock", "zebra"))
    assert {s.category for s in choose(data, ("all",))} == {"clock", "zebra"}
    assert {s.category for s in choose(data, ())} == {"clock"}
    assert {s.category for s in choose(data_of(("zebra",)), ())} == {"zebra"}
