"""The dual memory of Kamra et al. 2018: quick memories of single tasks, and a slow one that they fall asleep into."""
