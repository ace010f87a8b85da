"""Style modulation of a frozen base  [GANM sec. 4.1]: statistics of weights belong to a task, their shape to all."""
