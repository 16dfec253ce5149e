"""Bundled scenes: drawn pictures of six classes that COCO and ImageNet share, with exact masks."""

from pathlib import Path
from typing import Final

SCENES_DIR: Final = Path(__file__).resolve().parent
"""Folder that holds ``annotations/instances_scenes.json`` and ``scenes/*.jpg`` (COCO layout)."""
