"""Locked environments: what is installed where (`*.txt`), from which wishes (`*.in`), and the program that does it.

`install.py` and `lock.py` run as plain scripts before anything is installed, so they import the standard library only.
"""
