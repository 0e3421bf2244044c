"""Mathematics of load runs: measurements that merge exactly, confidence intervals, objectives, verdicts and summaries.

The load generator and the operator use this package: the load generator fills the measurements of a run, and the
operator merges those of several pods and judges them. Nothing here reads a clock, a file or the network.
"""
