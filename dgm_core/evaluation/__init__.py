"""Evaluation: how good a memory is, judged by what its samples are worth to a learner."""
