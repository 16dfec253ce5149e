"""``python -m xai_core explain IMAGE``."""

from __future__ import annotations

import argparse
import difflib
from pathlib import Path
from typing import TYPE_CHECKING

from xai_core.errors import BadInput, Unsupported
from xai_core.files import file_name, printable
from xai_core.types import LARGEST_SIZE, ORIGINAL, is_size

if TYPE_CHECKING:
    from torch import Tensor

    from xai_core.types import Image, Net

SHEET = "contact-sheet.png"
MOST_DIGITS = 18
"""Of an index; Python refuses to read numbers of thousands."""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "explain",
        help="write the maps of any picture, and a contact sheet",
        description="Write the maps of one picture (PNG and NPY) and a contact sheet.",
    )
    option = parser.add_argument
    parser.add_argument("image", metavar="IMAGE", type=Path, help="any picture file")
    option("--net", required=True, metavar="NET", help="torchvision name or package.module:SPEC")
    option(
        "--class",
        dest="category",
        metavar="CLASS",
        help=(
            "what to explain: a class name of the net, a COCO category or an index (the net's "
            "first choice)"
        ),
    )
    option(
        "--weights",
        metavar="WHERE",
        help="[NET=]imagenet[:V2], scenes, random[:SEED] or a state_dict file (imagenet)",
    )
    option(
        "--size",
        default="224",
        metavar="SIZE",
        help=f"original, or N for NxN pixels, at most {LARGEST_SIZE} (224)",
    )
    option(
        "--out",
        type=Path,
        metavar="DIR",
        help="folder to write to (IMAGE-NET, here; IMAGE with its ending)",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Compute the maps, write them, and say what was explained."""
    from xai_core.data.images import decode, read_image
    from xai_core.nets import get_spec, load_net

    path: Path = arguments.image
    size = _size(arguments.size)
    image = decode(read_image(path), str(path), upright=True)
    spec = get_spec(arguments.net)
    # As pytest bench takes it, and as messages about weights advise.
    where = arguments.weights and arguments.weights.removeprefix(f"{spec.id}=")
    net = load_net(spec, where)
    folder = arguments.out or Path(f"{path.name}-{file_name(net.id)}")
    for line in explain(image, net, arguments.category, size, folder, path.name):
        print(printable(line))


def explain(
    image: Image, net: Net, category: str | None, size: str, folder: Path, name: str
) -> list[str]:
    """Write maps and contact sheet; the result says in lines what was explained and written.

    Those of an earlier picture, class or size in the folder are removed, which a line says.

    Args:
        image: uint8 RGB, (H, W, 3).
        net: what recognises.
        category: see `candidates`; None for the net's first choice.
        size: ``original`` or N.
        folder: of the files.
        name: of the image.

    Raises:
        BadInput: the class is not one of the net's, or the net can't take the image.
    """
    from xai_core.engine import FusedEngine
    from xai_core.methods import DEFAULT_METHODS, METHODS
    from xai_core.nets.preprocess import preprocess
    from xai_core.report import contact_sheet, maps
    from xai_core.report.charts.chart import save

    methods = [METHODS.get(m) for m in DEFAULT_METHODS if not METHODS.get(m).baseline]
    pixels = preprocess(image, size, net)
    wanted = () if category is None else candidates(category, net)
    result = FusedEngine()(net, pixels, [wanted], methods)
    found = {m.id: result.maps[m.id][0].numpy() for m in methods if m.id in result.maps}
    titles = {m.id: m.title for m in methods}
    replaced = maps.remove(folder, [m.id for m in methods])
    for method, values in found.items():
        maps.write(folder, method, values, image)
    explained, facts = _facts(net, result.logits[0], int(result.targets[0]))
    figure = contact_sheet.draw(
        image,
        {titles[method]: values for method, values in found.items()},
        {titles[m]: why for m, why in {**result.refused, **result.failed}.items()},
        f"{printable(name)}: why {printable(explained)}?",
        f"{facts} Size {size}.",
    )
    save(figure, folder / SHEET)
    missing = [f"no {titles[m]}: {why}" for m, why in {**result.refused, **result.failed}.items()]
    earlier = [f"the maps that were in {folder} are replaced"] if replaced else []
    return [f"{explained}. {facts}", *missing, *earlier, f"contact sheet: {folder / SHEET}"]


def candidates(category: str, net: Net) -> tuple[int, ...]:
    """The outputs that a name or index means; of several, the one with the highest logit counts.

    Tried in this order: an index; a class name of the net, whatever its case; a COCO category,
    where the net's classes are ImageNet's.

    Raises:
        BadInput: none of these.
    """
    from xai_core.data.classes import ClassMap, coco_to_imagenet

    if category.isdecimal():
        if len(category) > MOST_DIGITS:
            raise BadInput(f"{net.id} has no output {category[:MOST_DIGITS]}...")
        return (int(category),)
    names = [n.casefold() for n in net.class_names or ()]
    found = tuple(i for i, n in enumerate(names) if n == category.casefold())
    if found:
        return found
    table = coco_to_imagenet() if len(names) == 1000 else ClassMap({})
    if category.casefold() in table.classes:
        try:
            return table.indices(category.casefold())
        except Unsupported as error:
            raise BadInput(f"{net.id} knows no class {category!r}: {error}") from None
    if not names:
        raise BadInput(f"{net.id} has no class names: give --class as an index")
    near = difflib.get_close_matches(category.casefold(), {*names, *table.mapped}, n=3)
    hint = f"; near: {', '.join(near)}" if near else ""
    raise BadInput(f"{net.id} knows no class {category!r}{hint}")


def _facts(net: Net, logits: Tensor, target: int) -> tuple[str, str]:
    """What is explained, and how sure the net is of it."""
    probabilities = logits.double().softmax(dim=0)

    def named(index: int) -> str:
        return net.class_names[index] if net.class_names else f"class {index}"

    rank = int((logits > logits[target]).sum()) + 1
    first = int(logits.argmax())
    facts = f"Rank {rank} of {len(logits)}, probability {probabilities[target]:.2f}, by {net.id}"
    facts += f" ({net.weights.label}{', never trained' if net.weights.random else ''})."
    if first != target:
        facts += f" First choice: {named(first)}, {probabilities[first]:.2f}."
    return named(target), facts


def _size(text: str) -> str:
    if not is_size(text):
        raise BadInput(
            f"--size {text!r} must be {ORIGINAL}, or a number of pixels such as 224, at most "
            f"{LARGEST_SIZE}"
        )
    return text
