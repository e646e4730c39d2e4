"""Pipeline step: serve every candidate and the stable model, measure them in one run, judge them by the gates."""
