from helpers.trial_fixtures import results, write_curve  # noqa: F401
