"""Records of single requests: the journal, the access log, and OTLP export."""
