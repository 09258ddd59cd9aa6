"""Builds the pages of docs/ with Sphinx, without a warning, and checks their links offline."""
