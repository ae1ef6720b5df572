"""A sweep file as plain data, in which every value keeps the place where it was written."""
