"""The command line: one file per noun. Nothing is decided here; everything is shown here."""
