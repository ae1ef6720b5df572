"""The user's own code in a sweep file: where it is named, its source, and the models that it builds."""
