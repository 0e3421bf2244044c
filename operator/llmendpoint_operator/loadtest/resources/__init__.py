"""Pure builders of a load run: its questions, its identity, its Job."""
