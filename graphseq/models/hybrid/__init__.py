"""Families that combine several sources: other models, item features, matrix factors."""
