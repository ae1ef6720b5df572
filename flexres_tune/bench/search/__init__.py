"""bench search: how often each search policy answers right, on learning curves whose truth is known."""
