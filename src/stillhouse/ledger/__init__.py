"""The SQL view of the log: for asking questions. Nothing is ever written here that is not in the log first.

``projection`` makes tables and rows of what each fact declares (pure); ``store`` applies, ``building`` builds anew beside;
``queries`` asks; ``lineage`` follows what was made from what. SQLite by default, PostgreSQL by URL.
"""
