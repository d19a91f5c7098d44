"""A mutation fuzzer: damaged and malicious networks through everything that reads a file.

``python -m tests.fuzz --count 20000`` runs it. Each mutant is a function of its number and the
seed alone, so ``--only NUMBER`` makes it again.
"""
