"""Sphinx configuration. Nothing here needs a network."""

project = "Elyra"
copyright = "Elyra developers"
author = "Elyra developers"
extensions = ["myst_parser"]
html_theme = "alabaster"
exclude_patterns = ["_build"]
