"""CustomResourceDefinitions, generated from the typed models of the API."""
