"""The SQL view of the log: for asking questions. Nothing is ever written here that is not in the log first.

``projection`` makes tables and rows of what each fact declares (pure); ``ledger`` applies entries, ``building`` builds a new
view beside the one in use; ``*_queries`` ask by subject; ``lineage_graph`` follows what was made from what. SQLite by default,
PostgreSQL by URL.
"""
