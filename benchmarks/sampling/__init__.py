"""How fast memories are sampled, beside what a learner would otherwise use: one measurement a file."""
