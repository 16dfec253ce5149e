"""Loads the project's pytest plugin; only a root conftest may do so."""

pytest_plugins = ("xai_core.pytest_plugin",)
