"""Data sets of samples with masks: COCO files, the bundled scenes, their selection."""
