"""The experiments of Kamra, Gupta and Liu, "Deep generative dual memory network for continual learning", 2018  [DGDMN].

Small learners, tasks that come one after the other, and how much of the earlier ones is left: `python -m dgdmn --help`.
"""
