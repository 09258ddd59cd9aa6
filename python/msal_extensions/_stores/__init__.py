"""The stores: one file for each, behind the border of ``_store.py``."""
