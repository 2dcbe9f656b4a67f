"""Assess the quality of an alignment: evidence, verdict, expected error, landmark errors."""
