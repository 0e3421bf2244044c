"""Parts of the tests on a real cluster: the installed chart, nodes, pods, registries and faults."""
