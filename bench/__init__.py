"""The benchmark suite, for ``pytest bench``, and the project's own tools."""
