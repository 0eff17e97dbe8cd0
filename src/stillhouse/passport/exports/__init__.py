"""Passports in other people's formats: one file each. All are pure functions of a passport's statement, so whoever has a passport
can make them, without the home that it came from.
"""
