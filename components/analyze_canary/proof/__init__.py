"""Proof of the judge: false alarms and detection delays against the tests in common use; run it with `python -m`."""
