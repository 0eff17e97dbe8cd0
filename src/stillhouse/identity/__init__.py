"""Who signs: ``keys`` (a home's own and people's), ``signatures`` (what exactly is signed), ``roster`` (whose signature counts).

The roster is changed only by a threshold of those who answer for permission, as the root of TUF is (theupdateframework.io), and
every version of it can be checked from the first one on.
"""
