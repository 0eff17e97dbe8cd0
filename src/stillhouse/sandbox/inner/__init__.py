"""What runs inside: standard library only, and started as plain scripts with none of this package importable."""
