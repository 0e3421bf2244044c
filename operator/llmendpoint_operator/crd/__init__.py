"""From typed models to CustomResourceDefinitions."""
