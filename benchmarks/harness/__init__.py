"""What the benchmarks of continual learning share: data, the judge, the run that can be continued, measures, tables."""
