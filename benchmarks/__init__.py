"""Measurements that are run by hand; each file says how."""
