"""Load generator. It sends questions to a model server, measures every request, and ends with a verdict."""
