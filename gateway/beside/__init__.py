"""What happens beside a request and never in its way: shadow traffic and repeats of answers."""
