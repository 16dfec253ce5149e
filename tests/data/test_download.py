"""COCO from a server that stalls, resets, lies and refuses: success, or one sentence."""

from __future__ import annotations

import base64
import io
import json
import os
import re
import signal
import threading
import time
from hashlib import sha256
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from tests.data.test_coco import annotated
from tests.loopback import NOISE, loopback, zipped
from xai_core.data import download
from xai_core.data.annotations import find_annotations, load_annotations
from xai_core.data.classes import coco_to_imagenet
from xai_core.data.coco import CocoDataSet
from xai_core.data.download import MEMBER, fetch_annotations, fetch_images
from xai_core.data.lock import alone
from xai_core.data.site import ARCHIVE, COCO, Patience, Site
from xai_core.errors import BadInput, DataMissing

QUICK = Patience(timeout=0.3, attempts=3, pause=0.001)
SQUARE = [[4, 4, 40, 4, 40, 30, 4, 30]]
N = 12


def picture(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (40, 48, 3), dtype=np.uint8)
    PIL.Image.fromarray(pixels).save(file := io.BytesIO(), "JPEG", quality=95)
    return file.getvalue()


def annotation_file(**image) -> bytes:
    content = annotated(np.zeros((40, 48)), SQUARE)
    ids = range(1, N + 1)
    content["images"] = [
        content["images"][0]
        | {"id": i, "file_name": f"{i:012}.jpg", "coco_url": f"{COCO}/train2017/{i:012}.jpg"}
        | image
        for i in ids
    ]
    content["annotations"] = [content["annotations"][0] | {"id": i, "image_id": i} for i in ids]
    content["info"] = {"description": base64.b64encode(NOISE).decode()}
    return json.dumps(content).encode()


def archive(name: str = MEMBER, content: bytes | None = None) -> bytes:
    content = annotation_file() if content is None else content
    return zipped({name: content, "../outside.json": b"{}"})


def image_path(i: int) -> str:
    return f"/train2017/{i:012}.jpg"


@pytest.fixture
def server():
    files = {f"/{ARCHIVE}": archive()} | {image_path(i): picture(i) for i in range(1, N + 1)}
    with loopback(files) as running:
        yield running


def site_of(server, *, checked: bool = True) -> Site:
    digest = sha256(archive()).hexdigest()
    return Site(server.url, digest if checked else None, QUICK)


def data_in(folder: Path) -> CocoDataSet:
    annotations, images = find_annotations(folder)
    return CocoDataSet("coco", load_annotations(annotations), images, coco_to_imagenet())


def get_all(folder: Path, site: Site, said=None) -> dict[str, str]:
    say = (said if said is not None else []).append
    fetch_annotations(folder, site, say)
    data = data_in(folder)
    return fetch_images(data, data.samples(), site, say)


def files_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


WHOLE = {MEMBER, ".download.lock"} | {image_path(i)[1:] for i in range(1, N + 1)}


def test_all_that_is_needed_comes_once(tmp_path, server):
    said: list[str] = []
    assert get_all(tmp_path / "coco", site_of(server), said) == {}
    assert files_in(tmp_path) == {f"coco/{name}" for name in WHOLE}
    assert (tmp_path / "coco" / MEMBER).read_bytes() == annotation_file()
    for i in range(1, N + 1):
        assert (tmp_path / "coco" / image_path(i)[1:]).read_bytes() == picture(i)
    assert [text.split()[0] for text in said] == ["downloading", "unpacking", "downloading"]
    assert len(server.asked) == N + 1
    again: list[str] = []
    assert get_all(tmp_path / "coco", site_of(server), again) == {}
    assert not again
    assert len(server.asked) == N + 1


def test_only_the_images_of_the_samples_are_fetched(tmp_path, server):
    fetch_annotations(tmp_path, site_of(server), print)
    data = data_in(tmp_path)
    assert fetch_images(data, data.samples()[2:4], site_of(server), print) == {}
    assert {path for path, _ in server.asked[1:]} == {image_path(3), image_path(4)}


@pytest.mark.parametrize(
    ("path", "fault"),
    [
        *((f"/{ARCHIVE}", fault) for fault in ("stall", "reset", "short", "cut", "damaged", "503")),
        # A changed byte in the pixels of an image, whose hash nobody knows, goes unseen.
        *((image_path(5), fault) for fault in ("stall", "reset", "short", "cut", "503")),
    ],
)
def test_a_fault_that_passes_is_survived(tmp_path, server, path, fault):
    server.faults[path] = [fault]
    assert get_all(tmp_path, site_of(server)) == {}
    assert files_in(tmp_path) == WHOLE
    assert (tmp_path / image_path(5)[1:]).read_bytes() == picture(5)


@pytest.mark.parametrize("fault", ["stall", "reset", "short"])
def test_what_has_come_is_not_asked_for_again(tmp_path, server, fault):
    server.faults[f"/{ARCHIVE}"] = [fault]
    fetch_annotations(tmp_path, site_of(server), print)
    (first, begun), (second, goes_on) = server.asked
    assert first == second == f"/{ARCHIVE}"
    assert begun == 0 < goes_on <= len(archive()) // 2


SENTENCES = {
    "stall": "the server does not answer",
    "reset": "the connection breaks off again and again",
    "short": "the connection breaks off again and again",
    "drip": "the server sends less than 1,024 bytes a second",
    "drip-head": "the server does not answer",
    "503": "503 Service Unavailable",
    "404": "404 Not Found",
}


@pytest.mark.parametrize("fault", SENTENCES)
def test_an_archive_that_never_comes_is_one_sentence(tmp_path, server, fault):
    server.faults[f"/{ARCHIVE}"] = [fault, "always"]
    with pytest.raises(DataMissing) as caught:
        fetch_annotations(tmp_path, site_of(server), print)
    assert str(caught.value).endswith(f"{ARCHIVE} can't be downloaded: {SENTENCES[fault]}")
    assert not (tmp_path / MEMBER).exists()


@pytest.mark.parametrize("checked", [True, False])
@pytest.mark.parametrize("fault", ["cut", "damaged"])
def test_a_damaged_archive_is_never_believed(tmp_path, server, fault, checked):
    server.faults[f"/{ARCHIVE}"] = [fault, "always"]
    reason = "has not the SHA-256" if checked else "is damaged|holds no"
    with pytest.raises(DataMissing, match=reason):
        fetch_annotations(tmp_path, site_of(server, checked=checked), print)
    assert files_in(tmp_path) == {".download.lock"}
    server.faults.clear()
    assert get_all(tmp_path, site_of(server, checked=checked)) == {}


def test_an_interrupted_archive_goes_on_in_another_process(tmp_path, server):
    server.faults[f"/{ARCHIVE}"] = ["short", "always"]
    with pytest.raises(DataMissing):
        fetch_annotations(tmp_path, site_of(server), print)
    begun = (tmp_path / f"{ARCHIVE}.part").stat().st_size
    assert 0 < begun < len(archive())
    server.faults.clear()
    said: list[str] = []
    fetch_annotations(tmp_path, site_of(server), said.append)
    assert server.asked[-1] == (f"/{ARCHIVE}", begun)
    assert f"{begun:,} bytes are there" in said[0]


def test_a_part_of_another_version_is_not_continued(tmp_path, server):
    server.files[f"/{ARCHIVE}"] = archive(content=NOISE * 2)
    server.faults[f"/{ARCHIVE}"] = ["short", "always"]
    with pytest.raises(DataMissing):
        fetch_annotations(tmp_path, site_of(server), print)
    server.faults.clear()
    server.files[f"/{ARCHIVE}"] = archive()
    fetch_annotations(tmp_path, site_of(server), print)
    assert (tmp_path / MEMBER).read_bytes() == annotation_file()


def test_a_part_that_was_complete_when_the_process_died_is_taken(tmp_path, server):
    part = tmp_path / f"{ARCHIVE}.part"
    part.parent.mkdir()
    part.write_bytes(archive())
    tag = sha256(archive()).hexdigest()
    part.with_name(f"{part.name}.etag").write_text(f'"{tag}"')
    fetch_annotations(tmp_path, site_of(server), print)
    assert files_in(tmp_path) == {MEMBER, ".download.lock"}


def test_an_archive_without_the_annotations_is_refused_and_none_of_its_names_is_a_path(
    tmp_path, server
):
    server.files[f"/{ARCHIVE}"] = archive(name="annotations/other.json")
    with pytest.raises(DataMissing, match=f"holds no {MEMBER}"):
        fetch_annotations(tmp_path / "coco", site_of(server, checked=False), print)
    assert files_in(tmp_path) == {"coco/.download.lock"}


@pytest.mark.parametrize("fault", [*SENTENCES, "cut", "damaged"])
def test_an_image_that_never_comes_is_named_and_the_others_are_there(tmp_path, server, fault):
    server.faults[image_path(5)] = [fault, "always"]
    if fault == "damaged":  # in its header: it can't be decoded
        server.files[image_path(5)] = b"\xff" + picture(5)[1:4]
    failed = get_all(tmp_path, site_of(server))
    assert list(failed) == [f"{5:012}.jpg"]
    expected = SENTENCES.get(fault, "can't be decoded")
    assert expected in failed[f"{5:012}.jpg"]
    assert files_in(tmp_path) == WHOLE - {image_path(5)[1:]}
    server.faults.clear()
    server.files[image_path(5)] = picture(5)
    assert get_all(tmp_path, site_of(server)) == {}
    assert files_in(tmp_path) == WHOLE


def test_without_a_network_it_ends_at_the_first_images(tmp_path, server):
    fetch_annotations(tmp_path, site_of(server), print)
    offline = Site("http://127.0.0.1:1", None, QUICK)
    data = data_in(tmp_path)
    with pytest.raises(DataMissing, match=r"no image can be had: .*no connection; is there a net"):
        fetch_images(data, data.samples(), offline, print)
    with pytest.raises(DataMissing, match=r"no connection; is there a network\?"):
        fetch_annotations(tmp_path / "other", offline, print)


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        ({"coco_url": "http://elsewhere.org/1.jpg"}, "only http(s) from"),
        ({"coco_url": "file:///etc/passwd"}, "only http(s) from"),
        ({"coco_url": "http://images.cocodataset.org@elsewhere.org/1.jpg"}, "only http(s) from"),
        ({"coco_url": None}, "no coco_url"),
        ({"file_name": "../1.jpg"}, "leaves the image folder"),
        ({"file_name": "/tmp/1.jpg"}, "leaves the image folder"),
        ({"file_name": "x" * 300 + ".jpg"}, "is too long"),
        ({"file_name": "x/" * 1500 + "1.jpg"}, "is too long"),
        ({"coco_url": "http://[::1"}, "is no address"),
        ({"coco_url": f"{COCO}/" + "x" * 3000}, "is longer than 2000 characters"),
        ({"coco_url": 5}, "no coco_url"),
        ({"height": 20}, "but its annotation says 48x20"),
    ],
)
def test_entries_that_lead_astray_are_not_followed(tmp_path, server, image, reason):
    server.files[f"/{ARCHIVE}"] = archive(content=annotation_file(**image))
    site = site_of(server, checked=False)
    fetch_annotations(tmp_path / "coco", site, print)
    data = data_in(tmp_path / "coco")
    try:
        failed = fetch_images(data, data.samples(), site, print)
        assert len(failed) == N
    except DataMissing as error:
        failed = {"all": str(error)}
    assert all(reason in text for text in failed.values())
    assert files_in(tmp_path) == {f"coco/{MEMBER}", "coco/.download.lock"}


def test_redirection_stays_on_the_host(tmp_path, server):
    server.faults[image_path(5)] = ["http://elsewhere.org/1.jpg"]
    server.faults[image_path(6)] = [f"{server.url}{image_path(6)}"]
    server.faults[image_path(7)] = [f"{server.url}{image_path(7)}", "always"]
    server.faults[image_path(8)] = ["http://[bad"]
    failed = get_all(tmp_path, site_of(server))
    assert "elsewhere.org/1.jpg is not fetched" in failed.pop(f"{5:012}.jpg")
    assert "it is redirected to no address" in failed.pop(f"{8:012}.jpg")
    assert "redirected again and again" in failed.pop(f"{7:012}.jpg")
    assert not failed


@pytest.mark.parametrize(
    "entry",
    [
        {"file_name": "x" * 300 + ".jpg"},
        {"coco_url": "http://[::1"},
        {"coco_url": f"{COCO}/\ud7ff\u200b"},
        {"file_name": "annotations"},  # a folder, see below
        {"height": 10**400},
    ],
    ids=["long", "bracket", "unicode", "folder", "height"],
)
def test_one_malformed_entry_costs_its_own_image(tmp_path, server, entry):
    content = json.loads(annotation_file())
    content["images"][4] |= entry
    server.files[f"/{ARCHIVE}"] = archive(content=json.dumps(content).encode())
    (tmp_path / "train2017" / "annotations" / "x").mkdir(parents=True)
    for _ in range(2):  # also when all others are there
        assert len(get_all(tmp_path, site_of(server, checked=False))) == 1
        assert files_in(tmp_path) == WHOLE - {image_path(5)[1:]}


@pytest.mark.parametrize("note", [b"\xff", b'"a\nb"', b"W/x", b""])
def test_a_damaged_note_of_a_version_begins_anew(tmp_path, server, note):
    part = tmp_path / f"{ARCHIVE}.part"
    part.parent.mkdir()
    part.write_bytes(archive()[:100])
    part.with_name(f"{part.name}.etag").write_bytes(note)
    fetch_annotations(tmp_path, site_of(server), print)
    assert server.asked == [(f"/{ARCHIVE}", 0)]
    assert files_in(tmp_path) == {MEMBER, ".download.lock"}


def test_the_owner_of_a_lock_that_is_stopped_is_named_and_not_waited_for_long(tmp_path, server):
    started, end = threading.Event(), threading.Event()

    def hold():
        with alone(tmp_path, QUICK, print):
            started.set()
            end.wait(30)

    owner = threading.Thread(target=hold)
    owner.start()
    try:
        assert started.wait(10)
        said: list[str] = []
        with pytest.raises(DataMissing, match=rf"locked by process {os.getpid()} on .*: end it"):
            fetch_annotations(tmp_path, site_of(server), said.append)
        assert len(said) == 1
        assert f"is being downloaded to by process {os.getpid()} on" in said[0]
    finally:
        end.set()
        owner.join()
    fetch_annotations(tmp_path, site_of(server), print)
    assert files_in(tmp_path) == {MEMBER, ".download.lock"}


def test_ctrl_c_waits_for_no_server(tmp_path, server, monkeypatch):
    """As a signal does it: in the main thread, while all others wait for answers."""
    fetch_annotations(tmp_path, site_of(server), print)
    data = data_in(tmp_path)
    for i in range(1, N + 1):
        server.faults[image_path(i)] = ["stall"]
    patient = Site(server.url, None, Patience(timeout=60))
    timer = threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT))
    began = time.monotonic()
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        fetch_images(data, data.samples(), patient, print)
    assert time.monotonic() - began < 10
    assert files_in(tmp_path) == {MEMBER, ".download.lock"}


def test_an_endless_answer_is_given_up(tmp_path, server, monkeypatch):
    monkeypatch.setattr(download, "MOST_IMAGE", 1000)
    with pytest.raises(DataMissing, match="sends more than 1,000 bytes"):
        get_all(tmp_path, site_of(server))


def test_a_folder_that_can_t_be_written_is_one_sentence(tmp_path, server):
    (tmp_path / "coco").write_text("a file")
    with pytest.raises(DataMissing, match="can't be written: "):
        fetch_annotations(tmp_path / "coco", site_of(server), print)


def test_sites():
    assert Site.parse(COCO).sha256 == Site().sha256 is not None
    assert Site.parse("https://mirror.org/coco/").url == "https://mirror.org/coco"
    assert Site.parse("https://mirror.org").sha256 is None
    assert Site.parse(f"http://mirror.org:80#sha256={'a' * 64}").sha256 == "a" * 64
    for wrong in (
        "mirror.org",
        "ftp://mirror.org",
        "http://",
        "http://[::1",
        f"{COCO}#sha256=abc",
        f"{COCO}#x",
    ):
        with pytest.raises(BadInput, match=re.escape(repr(wrong))):
            Site.parse(wrong)
