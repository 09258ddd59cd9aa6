"""Makes of a directory of wheels what is published beside them."""
