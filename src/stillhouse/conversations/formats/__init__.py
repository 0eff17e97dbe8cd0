"""Formats of conversations, one file each."""
