"""Clusters that a reclaim drill asks for GPUs: one interface, one file for each."""
