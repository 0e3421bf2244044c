"""HTTP on the wire: servers with faults, recorded exchanges, fuzzers, and what other readers make of the same bytes."""
