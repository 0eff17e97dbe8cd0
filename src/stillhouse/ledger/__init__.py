"""The SQL view of the log: for asking questions. Nothing is ever written here that is not in the log first.

``schema`` has every table once; ``view`` turns an entry into rows (pure); ``store`` applies and rebuilds;
``queries`` asks; ``lineage`` follows what was made from what. SQLite by default, PostgreSQL by URL.
"""
