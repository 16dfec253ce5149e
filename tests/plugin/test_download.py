"""``--coco download``: from nothing to the table, once, on the controller alone."""

from __future__ import annotations

import base64
import json
import re
import shutil
import signal

import pytest

from tests.loopback import NOISE, loopback, zipped
from xai_core.data.download import MEMBER
from xai_core.data.site import ARCHIVE, COCO, Patience

USAGE = pytest.ExitCode.USAGE_ERROR
ANNOTATIONS = f"/{ARCHIVE}"


def image(i: int) -> str:
    return f"/train2017/{i}.jpg"


@pytest.fixture
def server(suite, monkeypatch):
    """COCO's site, with the suite's images; they are not on its disk any more."""

    def prepare(content):
        for entry in content["images"]:
            entry["coco_url"] = f"{COCO}/train2017/{entry['file_name']}"
        content["info"] = base64.b64encode(NOISE).decode()

    suite.change(prepare)
    files = {image(i): (suite.coco / image(i)[1:]).read_bytes() for i in range(1, 5)}
    files[ANNOTATIONS] = zipped({MEMBER: suite.annotations.read_bytes()})
    shutil.rmtree(suite.coco)
    monkeypatch.setattr(Patience.__init__, "__defaults__", (0.3, 2, 0.001, 1024.0))
    with loopback(files) as running:
        yield running


def options(server, *more: str) -> list[str]:
    return ["--coco=download", f"--coco-site={server.url}", "--method=cam", *more]


def output(result) -> str:
    text = result.stdout.str() + result.stderr.str()
    assert "Traceback" not in text
    return text


@pytest.mark.parametrize("workers", [(), ("-n2",)])
def test_one_command_goes_from_nothing_to_the_table_and_the_next_downloads_nothing(
    suite, server, workers
):
    run = suite.process if workers else suite.run
    result = run(*options(server, *workers))
    result.assert_outcomes(passed=4)
    assert sorted(server.asked) == sorted((path, 0) for path in server.files)
    assert "downloading 4 of 4 images" in output(result)
    assert re.search(r"^\| CAM +\|", suite.report, re.MULTILINE)
    assert "banana 2, orange 2" in suite.report
    first = suite.folder
    asked = len(server.asked)
    result = run(*options(server, *workers))
    result.assert_outcomes(passed=4)
    assert len(server.asked) == asked
    assert "downloading" not in output(result)
    p = "concentration"
    assert [r[p] for r in suite.records()] == [r[p] for r in suite.records(first)]


@pytest.mark.parametrize("dry", ["--collect-only", "--help", "--setup-plan"])
def test_nothing_is_downloaded_where_nothing_is_run(suite, server, dry):
    result = suite.process(*options(server, dry))
    text = output(result)
    assert not server.asked
    assert not (suite.path / "data").exists()
    if dry != "--help":
        assert result.ret == USAGE
        assert "nothing is downloaded while tests are only collected" in text


def test_once_it_is_there_it_is_collected(suite, server):
    suite.run(*options(server))
    asked = len(server.asked)
    result = suite.run(*options(server, "--collect-only", "-q"))
    assert result.ret == 0
    result.stdout.fnmatch_lines(["4 tests collected*"])
    assert len(server.asked) == asked


def test_it_goes_where_it_is_told_and_is_an_ordinary_folder_there(suite, server):
    given = options(server)
    given[0] = "--coco=download:somewhere/else"
    suite.run(*given).assert_outcomes(passed=4)
    assert (suite.path / "somewhere/else/train2017/4.jpg").is_file()
    asked = len(server.asked)
    suite.run("--coco=somewhere/else", "--method=cam").assert_outcomes(passed=4)
    assert len(server.asked) == asked


def test_only_the_images_that_are_chosen_come(suite, server):
    suite.run(*options(server, "--classes=orange")).assert_outcomes(passed=2)
    assert {path for path, _ in server.asked} == {ANNOTATIONS, image(2), image(4)}
    suite.run(*options(server, "--per-class=1")).assert_outcomes(passed=2)
    assert len(server.asked) == 4


def test_an_image_that_can_t_be_had_costs_its_items_and_no_others(suite, server):
    server.faults[image(3)] = ["404", "always"]
    result = suite.run(*options(server))
    result.assert_outcomes(passed=3, failed=1)
    text = output(result)
    assert f"3.jpg is missing, and its items will fail: {server.url}{image(3)}" in text
    assert "404 Not Found" in text
    assert "3.jpg" in suite.report.split("## Failed")[1]
    server.faults.clear()
    suite.run(*options(server, f"--resume={suite.folder}")).assert_outcomes(passed=4)
    assert "## Failed" not in suite.report


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ("stall", "the server does not answer"),
        ("reset", "the connection breaks off again and again"),
        ("short", "the connection breaks off again and again"),
        ("cut", "is damaged: "),
        ("damaged", "is damaged: "),
        ("404", "404 Not Found"),
        ("503", "503 Service Unavailable"),
    ],
)
def test_annotations_that_can_t_be_had_are_one_sentence(suite, server, fault, sentence):
    server.faults[ANNOTATIONS] = [fault, "always"]
    result = suite.run(*options(server))
    assert result.ret == USAGE
    text = output(result)
    assert re.search(rf"^ERROR: .*{re.escape(sentence)}", text, re.MULTILINE), text
    assert not (suite.path / "reports").exists()
    server.faults.clear()
    suite.run(*options(server)).assert_outcomes(passed=4)


def test_without_a_network(suite, server):
    result = suite.run("--coco=download", "--coco-site=http://127.0.0.1:1")
    assert result.ret == USAGE
    assert "no connection; is there a network?" in output(result)


def test_a_wrong_hash_is_not_believed(suite, server):
    given = options(server)
    given[1] += f"#sha256={'0' * 64}"
    result = suite.run(*given)
    assert result.ret == USAGE
    assert f"has not the SHA-256 {'0' * 64}" in output(result)
    assert not list((suite.path / "data").rglob("*.json"))


@pytest.mark.parametrize(
    ("end", "code"), [(signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 2)], ids=["kill", "ctrl-c"]
)
def test_an_interrupted_download_goes_on_in_the_next_run(suite, server, end, code):
    server.faults[ANNOTATIONS] = ["stall"]
    process = suite.start(*options(server))
    data = suite.path / "data"
    suite.wait(process, until=lambda: any(p.stat().st_size for p in data.rglob("*.zip.part")))
    process.send_signal(end)
    text, _ = process.communicate(timeout=60)
    assert process.returncode == code, text
    assert "Traceback" not in text
    result = suite.run(*options(server))
    result.assert_outcomes(passed=4)
    assert "bytes are there" in output(result)
    (_, first), (_, second) = (entry for entry in server.asked if entry[0] == ANNOTATIONS)
    assert first == 0 < second


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (["--coco=download", "--coco-site=mirror"], "--coco-site 'mirror' is no site: give http"),
        (["--coco=coco", "--coco-site=http://a.org"], "--coco-site is for --coco download"),
    ],
)
def test_sites_that_are_none(suite, given, sentence):
    result = suite.run(*given)
    assert result.ret == USAGE
    assert sentence in output(result)


@pytest.mark.real_data
def test_real_coco_from_an_empty_cache_to_the_table(suite, coco_dir, imagenet_weights):
    """The site holds ../shared/coco; the weights are real, too."""
    annotations = (coco_dir / MEMBER).read_bytes()
    files = {ANNOTATIONS: zipped({MEMBER: annotations})}
    for entry in json.loads(annotations)["images"]:
        path = entry["coco_url"].removeprefix(COCO)
        files[path] = (coco_dir / "train2017" / entry["file_name"]).read_bytes()
    with loopback(files) as server:
        asked = [
            "--coco=download",
            f"--coco-site={server.url}",
            *("--net=squeezenet1_0", f"--weights=squeezenet1_0={imagenet_weights}"),
            *("--size=224", "--method=cam,grad_cam,uniform"),
        ]
        result = suite.run(*asked)
        downloads = server.asked.copy()
        samples = {record["sample"] for record in suite.records()}
        result.assert_outcomes(passed=3 * len(samples))
        assert len(downloads) == len(set(downloads)) == 1 + len({s[:12] for s in samples})
        assert len(samples) > 20
        first = suite.records()
        assert suite.run(*asked).ret == 0
        assert server.asked == downloads
    assert {r["weights_random"] for r in first} == {False}
    assert [r["concentration"] for r in first] == [r["concentration"] for r in suite.records()]
    rows = re.findall(r"^\| (CAM|Grad-CAM|Uniform) +\|", suite.report, re.MULTILINE)
    assert {"CAM", "Grad-CAM", "Uniform"} <= set(rows)
