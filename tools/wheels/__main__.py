"""Builds the wheels that can be built on this machine, checks them and tries them."""
