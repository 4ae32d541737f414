"""Scores of features and models by the protocols of a data set."""
