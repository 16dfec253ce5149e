"""Everything that people look at: renderings of records. Nothing here imports torch."""
