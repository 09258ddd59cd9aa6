"""The stores, one file for each.  ``_store.py`` says what a store is."""
