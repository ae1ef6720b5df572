"""bench sweep and bench scale: what the driver of a sweep costs."""
